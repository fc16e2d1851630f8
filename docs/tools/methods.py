"""``docs/methods.md``: every merge method, written from the methods themselves.

python -m docs.tools.methods > docs/methods.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from persona.verbs.merge_methods import MethodDescription, merge_methods, toml

INTRODUCTION = """\
# Merge methods

The formulas and parameters on this page are made from the methods themselves, by `python -m docs.tools.methods`;
`persona methods NAME` shows the same. A recipe names one in `[merge]`, and `persona.toml` without that table means
`linear`:

```toml
[merge]
method = "ties"
density = 0.3
```

In all of them, τᵢ = fp32(Wᵢ) − fp32(W_base) is what a run changed, αᵢ its alpha, δ the merged change, and
W = W_base + λδ, with λ the recipe's `scale`. Everything is fp32 and rounded once, to the dtype of the output. The same
recipe gives the same bytes whatever the number of cores, the size of blocks, the memory or the shards; and on any machine,
but for `iso_c` and `tsv_m`, which leave decompositions to LAPACK ([what that means](decisions/0007-merging.md#singular-vectors)).

## Which one

Begin with `linear`. Plain task arithmetic is the default because a large comparison on language models
([arXiv:2511.21437](https://arxiv.org/abs/2511.21437)) found it the only method that gained reliably. The others are for
when you have measured that vectors get in each other's way:

| if | try |
|---|---|
| you want one behaviour more, less, or taken away | `linear`, and other alphas |
| two vectors push the same weights in opposite directions | `ties`: the side with more mass wins, and the other does not weaken it |
| vectors carry much small noise beside what matters | `ties` or `breadcrumbs` with a lower `density` |
| a few huge changes dominate | `breadcrumbs`: drops them |
| runs are repetitions of one task, and you want the steady part of them | `model_stock`, `karcher` |
| you have examples of what each vector is for, and want each weight from the vector that needs it most | `fisher`, after `persona fisher` for each vector ([what it did](decisions/0022-fisher-weighted-merging.md)) |
| two models, and a way between them | `slerp` (models), `nuslerp` (task vectors) |
| many vectors of different tasks | `iso_c`, `tsv_m`: they work on singular directions, a matrix at a time, and take longer |
| you carry a recipe over from mergekit | the same name; see [beside mergekit](#beside-mergekit) |

None of this replaces measuring: build both, and compare.

### What TIES is for, and what it costs

Two vectors of 100,000 entries with a merge that is known because it was planted. *Interfering*: strong entries of size 1
on noise of 0.3; in 5 % both vectors want the same 1, in 5 % one wants ±1 where the other drifted 0.6 the other way.
*Independent*: two dense vectors that have nothing to do with each other, and the sum is right. Cosine to the planted
merge (1 is best), and mean squared error as a share of its mean square (0 is best); `ties` with density 0.2:

| | interfering: cosine | error | independent: cosine | error |
|---|---|---|---|---|
| linear, 1 each | 0.785 | 0.710 | 1.000 | 0.000 |
| linear, ½ each | 0.785 | 0.394 | 1.000 | 0.250 |
| ties | 0.970 | 0.061 | 0.771 | 0.405 |

So it does what it was made for, where there is that to do, and harms where there is not. This is arithmetic on made-up
numbers, not a result on a language model. (`tests/methods/test_claims.py` computes the table.)

## What all of them share

- **A negative alpha is another vector.** The sign is folded in before anything is elected, so one vector at −1 under
  `ties` gives W_base − τ̂.
- **Density is a promise.** Of n entries, density · n are kept, rounded to nearest and at least one. bf16 fine-tunes have few
  distinct magnitudes, so thousands of entries may be equal at the edge: these are thinned evenly over the tensor, neither
  all kept nor all dropped. In tensors of at most 65,536 entries the number is exact.
- **Random choices** come from `seed`, the vector, the tensor and the place of an entry, and from nothing else.
- **Rows and tensors that the base has not** (new tokens, a value head) are carried, not merged, under every method.
- **A vector that leaves a tensor alone** is not there, for methods that look at entries. For those that look at directions it
  counts as τ = 0, which *Vectors* says below.
- Parameters that are *per vector* may also stand in `[vectors.NAME]`, and count there.

"""

BESIDE = """\
## Beside mergekit

Names are mergekit's where it has one. `tests/parity/test_mergekit.py` merges the same fp32 checkpoints (a small Llama, runs
that share half of their way) with mergekit 0.1.5 and compares; it runs where mergekit is installed. The largest difference
of any weight, as a share of the largest weight of its tensor; one step of fp32 is 1.2e-7:

| here | there | difference |
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

(`iso_c` and `tsv_m` have no counterpart there.)

What differs on purpose, each shown by a test in the same file or in `tests/methods/`:

| | mergekit 0.1.5 | here | why |
|---|---|---|---|
| mean after an election | divides by Σ of the signed weights: one vector at −1 comes back as **+τ̂** (measured cosine between both results: −1.000) | divides by how many agree, or by Σ of their absolute alphas: it gives −τ̂ | negation must negate |
| equal weights | cancel: 0.3 for each of three gives what 1 for each gives (measured ratio of lengths: 0.300) | an alpha is a strength; `normalize = "weights"` if you want that | |
| how many are kept | ⌊density · n⌋: 204 of 1024 at 0.2 | rounded to nearest: 205 | |
| equal magnitudes at the edge | whichever a sort puts first | spread evenly over the tensor | a sort favours some rows |
| a balance of exactly 0 | counts as + | gives 0 | nobody won |
| DARE's and DELLA's rescale | to the L1 norm before | ÷ chance to be kept, the papers' rule; `rescale = "l1"` is theirs | its expectation is τ |
| DELLA's ε, its and DARE's density | 0.15; 1 | 0.1; 0.5 | a density of 1 drops nothing |
| SCE's energies | below 1e-6, the same weight for all: light fine-tunes (1e-4 of the weights) got uniform weights, 21 % away from ours | ratios, however small | |
| SLERP within 1.8° | a straight line | the arc down to 1e-8; between fine-tunes the same to 1.2e-7 | |
| Model Stock's t | unbounded: at cos near −½ it steps *away* from both runs (measured: the way of both turned round) | between 0 and 1 | where runs point apart, the base is the best guess |
| Karcher's weights | equal | the alphas | |
| `trim = "model"` | not there | the authors' rule for TIES | |
| random masks | torch's generator: they depend on the version, and on the order of tensors | from seed, vector, tensor and place | the same recipe gives the same bytes |
"""

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_CODE = re.compile(r"``(.+?)``")


def page() -> str:
    """The whole page, as Markdown."""
    found = merge_methods()
    contents = " · ".join(f"[{one.name}](#{one.name})" for one in found)
    sections = [section for one in found for section in _section(one)]
    return "\n".join([f"{INTRODUCTION}## The methods\n\n{contents}\n", *sections, BESIDE])


def _section(one: MethodDescription) -> Iterator[str]:
    """One method: formula, remarks, parameters, what to paste."""
    also = f" Also called {', '.join(f'`{alias}`' for alias in one.aliases)}." if one.aliases else ""
    yield f"### {one.name}\n"
    source = _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", one.source)
    yield f"{one.summary[0].upper()}{one.summary[1:]} ({source}).{also}\n"
    for paragraph in one.text.split("\n\n"):
        yield f"{_paragraph(paragraph)}\n"
    every = " One that leaves a tensor alone counts there with τ = 0." if one.counts_every else ""
    weighed = (
        " Where several meet, each needs a Fisher diagonal: `persona fisher NAME --data FILE`." if one.weighs else ""
    )
    yield f"Vectors: {one.vectors}.{every}{weighed}\n"
    if one.parameters:
        yield _parameters(one)
    yield f"```toml\n{one.recipe}\n```\n"


def _paragraph(text: str) -> str:
    """A formula is indented, in the docstring, and fenced on the page."""
    if text.startswith("    "):
        lines = (line.removeprefix("    ") for line in text.splitlines())
        return "```text\n" + "\n".join(lines) + "\n```"
    return _CODE.sub(r"`\1`", text)


def _parameters(one: MethodDescription) -> str:
    rows = ["| parameter | default | takes | per vector | |", "|---|---|---|---|---|"]
    for p in one.parameters:
        summary = p.summary.replace("|", "\\|")
        own = "yes" if p.per_vector else "no"
        rows.append(f"| `{p.name}` | `{toml(p.default)}` | {p.wanted} | {own} | {summary} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)
