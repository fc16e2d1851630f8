"""Write ``docs/methods.md``, which describes every merge method, from the methods themselves.

python -m docs.tools.methods > docs/methods.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from persona.verbs.merge_methods import MethodDescription, merge_methods, toml

INTRODUCTION = """\
# Merge methods

The formulas and parameters on this page are generated from the methods themselves by `python -m docs.tools.methods`;
`persona methods NAME` prints the same. A recipe names its method in `[merge]`; without that table, the method is `linear`:

```toml
[merge]
method = "ties"
density = 0.3
```

In all formulas, τᵢ = fp32(Wᵢ) − fp32(W_base) is the change of a run, αᵢ its alpha, δ the merged change, and
W = W_base + λδ, where λ is the recipe's `scale`. All arithmetic is fp32, rounded once to the dtype of the output. The same
recipe gives the same bytes for any number of cores, size of blocks, amount of memory or number of shards, and on any
machine, except for `iso_c` and `tsv_m`, which leave decompositions to LAPACK ([what that means](decisions/0007-merging.md#singular-vectors)).

## Which one to choose

Start with `linear`. Plain task arithmetic is the default because a large comparison on language models
([arXiv:2511.21437](https://arxiv.org/abs/2511.21437)) found it to be the only method with reliable gains. Use the others
if you have measured that vectors interfere:

| if | try |
|---|---|
| you want more or less of one behaviour, or none of it | `linear`, with other alphas |
| two vectors push the same weights in opposite directions | `ties`: the side with more mass wins, undiluted by the other |
| vectors contain much small noise besides what matters | `ties` or `breadcrumbs` with a lower `density` |
| a few huge changes dominate | `breadcrumbs`, which drops them |
| several runs learned the same task, and you want what they agree on | `model_stock`, `karcher` |
| you have examples for each vector, and want each weight from the vector that needs it most | `fisher`, after `persona fisher` for each vector ([measurements](decisions/0022-fisher-weighted-merging.md)) |
| you want a point between two models | `slerp` (models), `nuslerp` (task vectors) |
| many vectors of different tasks | `iso_c`, `tsv_m`, which work on singular directions of each matrix, and take longer |
| you have a mergekit configuration | `persona import`; see [beside mergekit](#beside-mergekit) |

None of this replaces measuring: build both and compare.

### What TIES is for, and what it costs

Two synthetic vectors of 100,000 entries, for which the right merge is known. *Interfering*: strong entries of size 1 on
noise of 0.3; in 5 % of the entries both vectors want the same 1, in 5 % one wants ±1 where the other drifted 0.6 the other
way. *Independent*: two unrelated dense vectors, for which the sum is right. Cosine to the right merge (1 is best), and mean
squared error relative to its mean square (0 is best); `ties` with density 0.2:

| | interfering: cosine | error | independent: cosine | error |
|---|---|---|---|---|
| linear, 1 each | 0.785 | 0.710 | 1.000 | 0.000 |
| linear, ½ each | 0.785 | 0.394 | 1.000 | 0.250 |
| ties | 0.970 | 0.061 | 0.771 | 0.405 |

So TIES helps where vectors interfere, and harms where they do not. This is arithmetic on synthetic numbers, not a result on
a language model. (`tests/methods/test_claims.py` computes the table.)

## What all methods share

- **A negative alpha makes another vector.** The sign is applied before signs are elected, so a single vector at −1 under
  `ties` gives W_base − τ̂.
- **Density is exact.** Of n entries, density · n are kept, rounded to nearest, at least one. bf16 fine-tunes have few
  distinct magnitudes, so thousands of entries may be equal at the edge; an even selection of these is kept, not all or
  none. In tensors of at most 65,536 entries the number is exact, in larger ones nearly so.
- **Random choices** depend only on `seed`, the vector, the tensor and the position of an entry.
- **Rows and tensors that the base does not have** (new tokens, a value head) are copied, not merged, under every method.
- **A vector that does not change a tensor** is ignored there by methods that look at entries. For methods that look at
  directions it counts as τ = 0, as stated under *Vectors* below.
- Parameters that are *per vector* can also be set in `[vectors.NAME]`.

"""

BESIDE = """\
## Beside mergekit

Methods have the names that mergekit uses. `tests/parity/test_mergekit.py` merges the same fp32 checkpoints (a small Llama,
with runs that share half of their training) with mergekit 0.1.5 and compares; it runs if mergekit is installed. The table
shows the largest difference of any weight, relative to the largest weight of its tensor; one step of fp32 is 1.2e-7:

| persona | mergekit | difference |
|---|---|---|
| `linear` | `task_arithmetic`, `normalize: false`; `scale` is `lambda` | 0 |
| `linear` with alphas that add up to 1 | `linear` (a mean of models) | 1.2e-7 |
| `ties`, `normalize = "weights"`, positive alphas | `ties` | 0 |
| `ties`, `normalize = "count"`, alphas of 1 | `ties` | 0 |
| `ties`, `normalize = "none"`, any alphas | `ties`, `normalize: false` | 0 |
| `dare_linear`, density 1 | `dare_linear`, `normalize: false` | 0 |
| `dare_ties`, density 1, `normalize = "weights"` | `dare_ties`, `normalize: true` | 0 |
| `della_linear`, density 1 | `della_linear`, `normalize: false` | 0 |
| `della`, density 1, `normalize = "weights"` | `della`, `normalize: true` | 0 |
| `breadcrumbs` | `breadcrumbs`, `normalize: false` | 0 |
| `breadcrumbs_ties`, `normalize = "none"` | `breadcrumbs_ties`, `normalize: false` | 0 |
| `sce`, also with `select_topk` | `sce` | 1.2e-7 |
| `model_stock` | `model_stock` | 1.6e-7 |
| `slerp`, one vector | `slerp` from the base | 1.2e-7 |
| `nuslerp` | `nuslerp` with a base | 1.6e-7 |
| `karcher`, alphas of 1 | `karcher` | 2.5e-7 |

(mergekit has no `iso_c`, `tsv_m` or `fisher`.)

Deliberate differences, each with a test in the same file or in `tests/methods/`:

| | mergekit 0.1.5 | persona | why |
|---|---|---|---|
| mean after an election | divides by Σ of the signed weights: a single vector at −1 gives **+τ̂** (measured cosine between both results: −1.000) | divides by the number that agree, or by Σ of their absolute alphas, so it gives −τ̂ | negation must negate |
| equal weights | cancel out: 0.3 for each of three gives the same as 1 for each (measured ratio of lengths: 0.300) | an alpha is a strength; set `normalize = "weights"` for mergekit's rule | |
| number of entries kept | ⌊density · n⌋: 204 of 1024 at 0.2 | rounded to nearest: 205 | |
| equal magnitudes at the edge | whichever a sort puts first | spread evenly over the tensor | a sort favours some rows |
| a balance of exactly 0 | counts as + | gives 0 | neither sign wins |
| rescaling in DARE and DELLA | to the L1 norm before | divided by the keep probability, as in the papers; `rescale = "l1"` is mergekit's rule | the expectation is τ |
| default ε of DELLA; density of DELLA and DARE | 0.15; 1 | 0.1; 0.5 | a density of 1 drops nothing |
| energies in SCE | equal weights below 1e-6: light fine-tunes (1e-4 of the weights) got uniform weights, 21 % away from persona's | ratios, however small | |
| SLERP within 1.8° | linear | the arc, down to 1e-8; for fine-tunes the same to 1.2e-7 | |
| t in Model Stock | unbounded: at cos near −½ it steps *away* from both runs (measured: both reversed) | between 0 and 1 | where runs point apart, the base is the best guess |
| weights in Karcher | equal | the alphas | |
| `trim = "model"` | not supported | the authors' rule for TIES | |
| random masks | torch's generator: depend on its version and on the order of tensors | from seed, vector, tensor and position | the same recipe gives the same bytes |
"""

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CODE = re.compile(r"``(.+?)``")


def page() -> str:
    """Return the page as Markdown."""
    described = merge_methods()
    contents = " · ".join(f"[{method.name}](#{method.name})" for method in described)
    sections = [section for method in described for section in _section(method)]
    return "\n".join([f"{INTRODUCTION}## The methods\n\n{contents}\n", *sections, BESIDE])


def _section(method: MethodDescription) -> Iterator[str]:
    """Yield the parts of a method's section: formula, remarks, parameters, and an example to paste."""
    also = f" Also called {', '.join(f'`{alias}`' for alias in method.aliases)}." if method.aliases else ""
    yield f"### {method.name}\n"
    source = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", method.source)
    yield f"{method.summary[0].upper()}{method.summary[1:]} ({source}).{also}\n"
    for paragraph in method.text.split("\n\n"):
        yield f"{_paragraph(paragraph)}\n"
    every = " One that does not change a tensor counts there with τ = 0." if method.counts_every else ""
    weighed = (
        " Where several change a tensor, each needs a Fisher diagonal: `persona fisher NAME --data FILE`."
        if method.weighs
        else ""
    )
    yield f"Vectors: {method.vectors}.{every}{weighed}\n"
    if method.parameters:
        yield _parameters(method)
    yield f"```toml\n{method.recipe}\n```\n"


def _paragraph(text: str) -> str:
    """Return a paragraph as Markdown; formulas are indented in docstrings, and fenced on the page."""
    if text.startswith("    "):
        lines = (line.removeprefix("    ") for line in text.splitlines())
        return "```text\n" + "\n".join(lines) + "\n```"
    return _CODE.sub(r"`\1`", text)


def _parameters(method: MethodDescription) -> str:
    rows = ["| parameter | default | values | per vector | |", "|---|---|---|---|---|"]
    for p in method.parameters:
        summary = p.summary.replace("|", "\\|")
        own = "yes" if p.per_vector else "no"
        rows.append(f"| `{p.name}` | `{toml(p.default)}` | {p.wanted} | {own} | {summary} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)
