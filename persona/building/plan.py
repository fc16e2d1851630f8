"""The plan of a build, as pure data: for each output tensor, where its entries come from. No weight is read.

The merge method computes W = W_base + λδ for a tensor, with δ from the τᵢ = Wᵢ − W_base of the vectors that change it
and their alphas; λ is `scale` (see `persona/methods`). The rules here say what it is given, and what happens to
tensors that it does not compute:

- A vector whose alpha is 0 at a tensor does not change it, as if the vector did not have the tensor.
- A tensor that no vector changes is the base's. One that a single whole tensor replaces (method ``linear``, λα = 1) is
  that vector's. Both are copied bit for bit.
- New rows and new tensors (added tokens, a value head) have no base to differ from. They are carried over unscaled; if
  several vectors add them, as their mean weighted by alpha. Vectors with a negative alpha add none.
- If the recipe chooses a tokenizer or a union of tokens, :mod:`persona.building.union` has arranged the rows before. Where
  it cannot read the tokenizers, only the new rows of the chosen vector are carried.
- A tensor that a vector with a positive alpha was saved without is left out; another vector must not change it.
- A method that weighs entries gets the Fisher diagonals where several vectors change a tensor, unless one of them
  does not have the tensor in its diagonal: then none is used there.
- A derived vector is one vector to the method. Its terms with a positive coefficient add their rows, tensors, files
  and settings, each with a strength of alpha times the coefficient.
- dtype: the requested one; else the one that all full fine-tunes of the recipe agree on; else the base's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from persona import methods
from persona.building.acting import (
    Active,
    Dense,
    Touch,
    active_vectors,
    agreed_shape,
    check_growth,
    check_patterns,
    dropped,
)
from persona.checkpoints.dtypes import ARITHMETIC, BITS
from persona.checkpoints.groups import TOKENIZER
from persona.errors import Refusal, UsageError
from persona.ids import draw_key
from persona.methods.parts.parameters import Value
from persona.methods.parts.share import ONE, Cut, Share, Size
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe
from persona.store.nouns import Base, LowRankSpec, Source, TensorSpec, Vector, parts_of


@dataclass(frozen=True)
class Plan:
    """All output tensors in the order in which they are written, and the method that combines them.

    ``parameters`` has every parameter of the method, defaults included. A method with ``trim = "model"`` keeps the
    largest entries of a whole vector, so a tensor's threshold depends on all tensors: ``is_cut`` says that the thresholds
    were found and stored in :attr:`Term.cut`, so that each output can be built without the others.
    """

    outputs: tuple[Output, ...]
    method: str
    scale: float
    parameters: Mapping[str, Value] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True)
class Output:
    """One tensor of the build: ``copy`` bit for bit if set, else computed from base, terms and carried rows.

    ``base`` is None for a tensor that only vectors have.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    base: TensorSpec | None
    copy: TensorSpec | None = None
    terms: tuple[Term, ...] = ()
    carried: tuple[Carried, ...] = ()

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Term:
    """One vector at an output tensor.

    Attributes:
        vector: Its name in the recipe.
        alpha: Its alpha at this tensor.
        source: Where its τ comes from. None if it leaves the tensor alone: some methods count it there, with τ = 0.
        key: Random seed of its draws at this tensor, for methods that drop entries at random.
        parameters: The method's parameters, for this vector.
        cut: Which of its entries to keep, if that was found across the whole vector (see :class:`Plan`).
        weight: Its Fisher diagonal; set on all terms of an output or on none.
    """

    vector: str
    alpha: float
    source: Source | None
    key: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    cut: Cut | None = None
    weight: Weight | None = None

    @property
    def share(self) -> Share:
        """The term as the method gets it: the numbers, without stored tensors."""
        size = self.weight.size if self.weight else ONE
        return Share(self.alpha, self.key, self.parameters, self.cut, size)


@dataclass(frozen=True)
class Weight:
    """The Fisher diagonal that weighs a vector's entries at one tensor, and the size of the whole diagonal."""

    source: TensorSpec
    size: Size


@dataclass(frozen=True)
class Carried:
    """New rows, or a new tensor, from one vector, and their share in the mean of all that add them.

    ``part`` is the number of the term that they come from, if the vector is a derived one.
    """

    vector: str
    share: float
    source: TensorSpec
    part: int = 0


def make_plan(
    recipe: Recipe,
    base: Base,
    vectors: Mapping[str, Vector],
    dtype: str | None = None,
    active: Sequence[Active] | None = None,
) -> Plan:
    """Plan a build of ``recipe``.

    Args:
        recipe: A resolved recipe.
        base: Its base.
        vectors: Its vectors, by their names in the recipe.
        dtype: safetensors name of the dtype for every float tensor. By default each keeps its own.
        active: The vectors with a nonzero alpha, with their Fisher diagonals. By default they are found in ``recipe``,
            without diagonals.

    Raises:
        UsageError: a pattern matches no tensor, or the method does not accept these vectors.
        Refusal: two vectors cannot be built together.
    """
    active = active_vectors(recipe, base, vectors) if active is None else active
    for entry in recipe.vectors:
        check_patterns(entry, vectors[entry.name])
    check_growth(base, active)
    _check_count(recipe, active)
    left_out = dropped(active)
    # only a vector with a positive alpha adds tensors; dict.fromkeys removes duplicates
    names = dict.fromkeys([*base.tensors, *(n for a in active for n in a.vector.names if a.alpha_at(n) > 0)])
    kept = sorted((name for name in names if name not in left_out), key=natural)
    outputs = [_output(name, recipe, base, active, dtype) for name in kept]
    return Plan(tuple(o for o in outputs if o is not None), recipe.method, recipe.scale, _parameters(recipe))


def thin_rank(output: Output) -> int | None:
    """Σ rᵢ of a matrix that only products of factors change, if it is below both of its sides; else None."""
    sources = [part for term in output.terms if term.source is not None for _, part in parts_of(term.source)]
    ranks = [source.rank for source in sources if isinstance(source, LowRankSpec)]
    if output.base is None or len(output.base.shape) != 2 or not ranks or len(ranks) < len(sources):
        return None
    return sum(ranks) if sum(ranks) < min(output.base.shape) else None


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts ``layers.2`` before ``layers.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _check_count(recipe: Recipe, active: Sequence[Active]) -> None:
    """Check that the method accepts so many vectors."""
    least, most = methods.vectors_taken(methods.load(recipe.method))
    if active and not least <= len(active) <= (most or len(active)):
        wanted = f"{least}" if least == most else f"{least} or {most}" if most else f"at least {least}"
        raise UsageError(
            f"{recipe.method} merges {wanted} vector{'s' if wanted != '1' else ''}, and the recipe has {len(active)}: "
            f"{', '.join(a.name for a in active)}",
            "Choose another method ('persona methods'), or set the alpha of the others to 0.",
        )


def _parameters(recipe: Recipe, entry: Entry | None = None) -> dict[str, Value]:
    """The method's parameters, for one vector if given."""
    own = entry.parameters if entry is not None else {}
    return methods.settings(methods.load(recipe.method).PARAMETERS, recipe.parameters, own)


def _output(name: str, recipe: Recipe, base: Base, active: Sequence[Active], dtype: str | None) -> Output | None:
    """Plan one tensor; None if it is not part of the build, such as a head that stays tied."""
    if name not in base.tensors and not any(a.brings(name) for a in active):
        return None
    in_base = base.spec(name)
    touching = [touch for a in active if (touch := a.touch_at(name)) is not None]
    if in_base is None:
        touching = [touch for touch in touching if touch.alpha > 0]
    dense = [whole for touch in touching for whole in touch.dense if in_base is not None or whole.share > 0]
    adding = [whole for whole in dense if whole.share > 0]  # those that may add rows, or the whole tensor
    adding = _of_chosen_tokenizer(recipe, in_base, adding)
    shape = agreed_shape(name, in_base, adding)
    obstacle = _why_not_computable(in_base, dense)
    output_dtype = dtype if dtype and obstacle is None else _own_dtype(name, in_base, active)
    copy = _single_source(recipe, in_base, touching, dense)
    if copy is not None and (copy.dtype, copy.shape) == (output_dtype, shape):
        return Output(name, output_dtype, shape, in_base, copy)
    if obstacle is not None:  # an integer or quantized tensor can be copied, but not computed
        raise Refusal(
            f"{name}: {obstacle}, which persona stores but cannot add",
            f'Exclude it with except = ["{name}"], or use a dequantized checkpoint.',
        )
    terms = _terms(name, recipe, active, touching, in_base) if in_base is not None else ()
    return Output(name, output_dtype, shape, in_base, None, terms, _carried(in_base, shape, adding))


def _of_chosen_tokenizer(recipe: Recipe, in_base: TensorSpec | None, adding: list[Dense]) -> list[Dense]:
    """Leave out the new rows of vectors whose tokenizer the recipe does not choose, if the chosen one has rows too."""
    chosen = recipe.choices.files.get(TOKENIZER)
    grown = [whole for whole in adding if in_base is not None and whole.spec.shape != in_base.shape]
    if not any(whole.touch.active.name == chosen for whole in grown):
        return adding
    return [whole for whole in adding if whole not in grown or whole.touch.active.name == chosen]


def _why_not_computable(in_base: TensorSpec | None, dense: list[Dense]) -> str | None:
    """The first source of a tensor whose dtype is not a float format, in words; None if all are."""
    if in_base is not None and in_base.dtype not in ARITHMETIC:
        return f"the base has it as {in_base.dtype}"
    for whole in dense:
        if whole.spec.dtype not in ARITHMETIC:
            return f"vector '{whole.touch.active.name}' has it as {whole.spec.dtype}"
    return None


def _own_dtype(name: str, in_base: TensorSpec | None, active: Sequence[Active]) -> str:
    """The dtype of a tensor if none is requested.

    It is the one that all full fine-tunes have the tensor in, where one that leaves it alone counts with the base's. If
    they do not agree, it is the base's or, for a tensor that only vectors have, the widest.
    """
    dtypes = {spec.dtype for a in active for spec in a.whole_specs(name)}
    if len(dtypes) == 1:
        return dtypes.pop()
    return in_base.dtype if in_base is not None else max(dtypes, key=lambda dtype: (BITS[dtype], dtype))


def _single_source(
    recipe: Recipe, in_base: TensorSpec | None, touching: list[Touch], dense: list[Dense]
) -> TensorSpec | None:
    """The stored tensor that the result equals, up to its dtype; None if it has to be computed."""
    source: Source | None = None
    if not touching:
        source = in_base
    elif in_base is None:  # a new tensor: the mean of equal ones is each of them
        source = dense[0].spec if len({whole.spec.id for whole in dense}) == 1 else None
    elif len(touching) == 1 and recipe.method == "linear" and touching[0].alpha * recipe.scale == 1.0:
        source = touching[0].source
    return source if isinstance(source, TensorSpec) else None  # low-rank factors and sums have to be multiplied out


def _terms(
    name: str, recipe: Recipe, active: Sequence[Active], touching: list[Touch], in_base: TensorSpec
) -> tuple[Term, ...]:
    """The vectors that the method combines at a tensor, in recipe order: those that change it, or all of them."""
    method = methods.load(recipe.method)
    touches = {touch.active.name: touch for touch in touching}
    counted = active if touching and methods.counts_every(method) else [touch.active for touch in touching]
    terms = tuple(_term(name, recipe, a, touches.get(a.name)) for a in counted)
    complaint = methods.alphas_complaint(method, [term.alpha for term in terms]) if terms else None
    if complaint is not None:
        raise UsageError(complaint, f"At {name} they are {', '.join(f'{t.vector} {t.alpha:g}' for t in terms)}.")
    if methods.weighs(method) and len(terms) > 1:
        # a method that weighs entries does not count vectors that leave a tensor alone: each touch has its term
        weights = [_weight(touch.active, recipe.method, name, in_base) for touch in touching]
        if all(weights):
            return tuple(replace(term, weight=weight) for term, weight in zip(terms, weights, strict=True))
    return terms


def _term(name: str, recipe: Recipe, active: Active, touch: Touch | None) -> Term:
    """One vector at a tensor; `touch` is None if it leaves the tensor alone."""
    alpha, source = (touch.alpha, touch.source) if touch else (_alpha_if_untouched(active, name), None)
    parameters = _parameters(recipe, active.entry)
    key = draw_key(str(parameters.get("seed", 0)), active.entry.id, name)
    return Term(active.name, alpha, source, key, parameters)


def _alpha_if_untouched(active: Active, name: str) -> float:
    """The alpha of a vector at a tensor that it leaves alone, for a method that counts it there.

    It is the one by depth or pattern. Where that is 0 or there is none, it is the one of the largest magnitude, as the
    vector would otherwise not count.
    """
    return alphas.alpha_at(active.entry.alpha, name, active.depths) or max(alphas.numbers(active.entry.alpha), key=abs)


def _weight(active: Active, method: str, name: str, in_base: TensorSpec) -> Weight | None:
    """The Fisher weight of a vector at a tensor; None if its diagonal does not have the tensor."""
    diagonal, command = active.diagonal, f"persona fisher {active.name} --data FILE.jsonl"
    if diagonal is None:
        raise Refusal(
            f"method '{method}' needs the Fisher diagonal of vector '{active.name}' at {name}, and it has none",
            f"Estimate it ({command}), or choose another method.",
        )
    spec = active.diagonal_spec(name)
    if spec is None:
        return None
    if (spec.dtype, spec.shape) != ("F32", in_base.shape):
        raise Refusal(
            f"the Fisher diagonal of vector '{active.name}' has {name} as {spec.dtype} {list(spec.shape)}; "
            f"it must be F32 {list(in_base.shape)}, like the base",
            f"Estimate it again: {command}",
        )
    return Weight(spec, Size(diagonal.mean, diagonal.norm or 0.0))


def _carried(in_base: TensorSpec | None, shape: tuple[int, ...], adding: list[Dense]) -> tuple[Carried, ...]:
    """The rows that only vectors have, with their shares in the mean."""
    if in_base is not None and shape == in_base.shape:
        return ()
    adding = [whole for whole in adding if whole.spec.shape == shape]  # others have only the base's rows
    total = sum(whole.share for whole in adding)
    return tuple(Carried(w.touch.active.name, w.share / total, w.spec, w.part) for w in adding)
