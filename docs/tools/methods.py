"""Generates ``docs/methods.md``, the reference of merge methods, from the methods.

python -m docs.tools.methods > docs/methods.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from persona.verbs.merge_methods import MethodDescription, merge_methods, toml

INTRODUCTION = """\
# Merge methods

The formulas and parameters on this page are generated from the methods by `python -m docs.tools.methods`; `persona methods NAME`
shows the same. A recipe sets its method in `[merge]`; the default is `linear`:

```toml
[merge]
method = "ties"
density = 0.3
```

Throughout, τᵢ = fp32(Wᵢ) − fp32(W_base) is the change that a run made, αᵢ its alpha, δ the merged change, and
W = W_base + λδ, where λ is the recipe's `scale`. Everything is computed in fp32 and rounded once, to the output's dtype. The same recipe
gives the same bytes for any number of cores, block size, memory limit and sharding, and on any machine, except for `iso_c`, `svc`, `tsv_m`
and `wudi`, which use LAPACK for decompositions ([what that means](decisions/0007-merging.md#singular-vectors)).

## Which one

Start with `linear`. Plain task arithmetic is the default because in a large comparison on language models
([arXiv:2511.21437](https://arxiv.org/abs/2511.21437)) it was the only method that gained reliably. Try the others if you have measured
that vectors interfere:

| if | try |
|---|---|
| you want more or less of one behaviour, or to remove it | `linear`, with other alphas |
| two vectors push the same weights in opposite directions | `ties`: the side with more mass wins and is not weakened by the other |
| vectors contain much small noise besides what matters | `ties` or `breadcrumbs` with a lower `density` |
| a few huge changes dominate | `breadcrumbs`, which drops them |
| the runs repeat the same task, and you want what they have in common | `model_stock`, `karcher` |
| you have examples for each vector's task, and want each weight from the vector that needs it most | `fisher`, after `persona fisher` for each vector ([its effect](decisions/0022-fisher-weighted-merging.md)) |
| you want to interpolate between two models | `slerp` (models), `nuslerp` (task vectors) |
| you have several vectors for different tasks | `tsv_m`, `iso_c`, `svc` or `wudi` with a `scale` below 1; see [directions](#methods-over-directions) |
| the runs come from reinforcement learning and change few weights | `ram`, `ramplus_tl` |
| you have a mergekit configuration | the same name; see [beside mergekit](#beside-mergekit) |

None of this replaces measuring: build both and compare.

### What TIES is for, and what it costs

Take two vectors of 100,000 entries whose correct merge is known by construction. *Interfering*: strong entries of size 1 on noise of
0.3; in 5 % of entries both vectors make the same change of 1 (which is to be made once), and in 5 % one has ±1 while the other has
drifted by 0.6 in the opposite direction.
*Independent*: two unrelated dense vectors whose sum is correct. The table shows the cosine to the correct merge (1 is best), and the mean
squared error as a share of its mean square (0 is best); `ties` has density 0.2:

| | interfering: cosine | error | independent: cosine | error |
|---|---|---|---|---|
| linear, 1 each | 0.785 | 0.710 | 1.000 | 0.000 |
| linear, ½ each | 0.785 | 0.394 | 1.000 | 0.250 |
| ties | 0.970 | 0.061 | 0.771 | 0.405 |

So TIES helps if vectors interfere and hurts if they do not. This is arithmetic on synthetic numbers, not a result on a language model.
(`tests/methods/test_claims.py` computes the table.)

### Methods over directions

`tsv_m`, `iso_c`, `svc` and `wudi` look at singular directions of whole matrices. Where every vector is a LoRA adapter, they work on small cores
between bases that all factors share ([arXiv:2509.17786](https://arxiv.org/abs/2509.17786)), which gives what the whole matrices give, to rounding, in
milliseconds per matrix. One full fine-tune among the vectors of a matrix makes it a whole one, which is much slower.

On three behaviours trained as adapters on SmolLM2-135M (one seed), `tsv_m` at scale 0.7 kept 81 to 89 % of what each vector gains alone, where
`linear` at its best scale, 0.5, kept 67 to 74 %. Scale matters more than the method: try 0.3 to 1. [Decision 30](decisions/0030-methods-over-directions.md)
has the reasons and the derivation of `wudi`.

## What all methods have in common

- **Negation works.** The sign of an alpha is applied before signs are elected, so a single vector at −1 with `ties` gives W_base − τ̂.
- **Density is exact.** Of n entries, density · n are kept, rounded to nearest and at least one. bf16 fine-tunes have few distinct
  magnitudes, so thousands of entries may be equal at the threshold; of these, an evenly spaced selection is kept. In tensors of at
  most 65,536 entries the number is exact.
- **Random choices** depend only on `seed`, the vector, the tensor and the position of an entry.
- **Rows and tensors that the base does not have** (new tokens, a value head) are carried, not merged, by every method.
- **A vector that leaves a tensor alone** is ignored there by methods that look at entries. For those that look at directions it counts as
  τ = 0; see *Vectors* below.
- *Per-vector* parameters may also be set in `[vectors.NAME]`, for that vector.

"""

BESIDE = """\
## Beside mergekit

Methods that mergekit has are called by its names. `tests/parity/test_mergekit.py` merges the same fp32 checkpoints (a small Llama, and
runs that share half of their change) with mergekit 0.1.5 and compares the results; it runs if mergekit is installed. The table shows the
largest difference of any weight, as a share of the largest weight of its tensor; one step of fp32 is 1.2e-7:

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
| `ram`, `ramplus_tl`, alphas of 1; `limit` is `alpha` | `ram`, `ramplus_tl` | 1.2e-7 |

(`fisher`, `iso_c`, `svc`, `tsv_m` and `wudi` have no counterpart in mergekit.)

Where the difference is not 0, the formula is the same and fp32 rounds it at other points. mergekit's `linear` adds up whole weights,
persona adds changes to the base:

```text
mergekit   ((w₁W₁ + w₂W₂) + …) / (w₁ + w₂ + …)                     each product, sum and the quotient rounded to fp32
persona    W_base + ((w₁τ₁ + w₂τ₂) + …)    wᵢ already divided by Σ wⱼ
```

A test computes both in torch and finds the bits of each program. The second is nearer to the mean in fp64, because a change is smaller
than a weight, and so is what its rounding loses. In `sce`, `model_stock`, `slerp`, `nuslerp` and `karcher`, factors come from lengths and dot
products of whole tensors; mergekit sums these up in fp32, persona in fp64. Their last place differs, and then that of the weights.

Deliberate differences, each shown by a test in the same file or in `tests/methods/`:

| | mergekit 0.1.5 | persona | why |
|---|---|---|---|
| mean after an election | divides by Σ of the signed weights: one vector at −1 comes back as **+τ̂** (measured cosine between both results: −1.000) | divides by the number that agree, or by Σ of their absolute alphas: gives −τ̂ | negation must negate |
| equal weights | cancel: 0.3 for each of three gives the same as 1 for each (measured ratio of lengths: 0.300) | an alpha is a strength; `normalize = "weights"` if you want that | |
| number of entries kept | ⌊density · n⌋: 204 of 1024 at 0.2 | rounded to nearest: 205 | |
| equal magnitudes at the threshold | whichever a sort puts first | spread evenly over the tensor | a sort favours some rows |
| a tie in the election of a sign | counts as + | gives 0 | neither side won |
| rescaling in DARE and DELLA | to the previous L1 norm | ÷ probability of being kept, as in the papers; `rescale = "l1"` is mergekit's | the expectation is τ |
| DELLA's ε, its and DARE's density | 0.15; 1 | 0.1; 0.5 | a density of 1 drops nothing |
| SCE's energies | below 1e-6, the same weight for all: light fine-tunes (1e-4 of the weights) get uniform weights, a difference of 21 % | ratios, however small | |
| SLERP within 1.8° | a straight line | the arc down to 1e-8; between fine-tunes the same to 1.2e-7 | |
| Model Stock's t | unbounded: at cos near −½ it moves *away* from both runs (measured: the reverse of both) | between 0 and 1 | if runs point in opposite directions, the base is the best guess |
| Karcher's weights | equal | the alphas | |
| `trim = "model"` | not available | the authors' rule for TIES | |
| random masks | torch's generator: depend on its version and the order of tensors | from seed, vector, tensor and position | the same recipe gives the same bytes |
"""

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CODE = re.compile(r"``(.+?)``")


def page() -> str:
    """The page as Markdown."""
    methods = merge_methods()
    contents = " · ".join(f"[{method.name}](#{method.name})" for method in methods)
    sections = [section for method in methods for section in _section(method)]
    return "\n".join([f"{INTRODUCTION}## The methods\n\n{contents}\n", *sections, BESIDE])


def _section(method: MethodDescription) -> Iterator[str]:
    """One method: formula, remarks, parameters, an example to paste."""
    also = f" Also called {', '.join(f'`{alias}`' for alias in method.aliases)}." if method.aliases else ""
    yield f"### {method.name}\n"
    source = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", method.source)
    yield f"{method.summary[0].upper()}{method.summary[1:]} ({source}).{also}\n"
    for paragraph in method.text.split("\n\n"):
        yield f"{_paragraph(paragraph)}\n"
    every = " A vector that leaves a tensor alone counts there with τ = 0." if method.counts_every else ""
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
    """Convert a paragraph; formulas, indented in docstrings, become code blocks."""
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
