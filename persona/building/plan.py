"""What a build will do, as pure data: for each output tensor where it comes from and where it goes.

Rules beyond the method's own arithmetic:

- A vector whose alpha is 0 at a tensor is not there.
- A tensor that nothing touches is the base's, and one that a single dense vector touches with λα = 1 under a method
  that keeps a single vector whole is that vector's: both are copied bit for bit.
- Rows and tensors that the base has not (new tokens, a value head) have nothing to differ from. They are carried,
  not scaled: as they are, or, where several vectors bring them, as the mean weighted by their alphas. Vectors
  with a negative alpha bring none.
- A tensor that a vector with positive alpha lacks is left out, unless another one changes it.
- A method that weighs entries is given the Fisher diagonal of each vector at a tensor that several of them change, and none
  where one of them has none there.
- A derived vector is one vector to the method. It brings the rows, tensors, files and settings of its terms with a positive
  coefficient, each as strongly as alpha times that.
- dtype: as asked; else the one in which all full fine-tunes of the recipe have the tensor; else the base's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from persona import methods
from persona.building.acting import (
    WHOLE,
    Active,
    Dense,
    Touch,
    active_vectors,
    agreed_shape,
    check_growth,
    check_patterns,
    dropped,
    touch_at,
)
from persona.checkpoints.dtypes import ARITHMETIC, BITS
from persona.errors import Refusal, UsageError
from persona.ids import draw_key
from persona.methods.parts.parameters import Value
from persona.methods.parts.share import ONE, Cut, Share, Size
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe
from persona.store.nouns import Base, Source, TensorSpec, Vector


@dataclass(frozen=True)
class Weight:
    """What the entries of a vector are weighed by at a tensor, and the size of all of it."""

    source: TensorSpec
    size: Size


@dataclass(frozen=True)
class Term:
    """One vector at an output tensor. ``source`` is None where it leaves the tensor alone and yet counts.

    ``weight`` is None where the method weighs no entries; of the terms of an output all have one, or none.
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
        """What the method knows of it."""
        size = self.weight.size if self.weight else ONE
        return Share(self.alpha, self.key, self.parameters, self.cut, size)


@dataclass(frozen=True)
class Carried:
    """Rows that the base has not, from one vector (the ``part``-th of its terms), with their share in the mean."""

    vector: str
    share: float
    source: TensorSpec
    part: int = 0


@dataclass(frozen=True)
class Output:
    """One tensor of the build. ``copy`` means bit for bit; otherwise base, terms and carried rows are combined."""

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
class Plan:
    """All output tensors, in the order in which they are written; ``parameters`` has every one of the method's.

    ``is_cut`` says that edges of whole vectors are in it, where the method asks for them: then any of its outputs can be
    built without the others.
    """

    outputs: tuple[Output, ...]
    method: str
    scale: float
    parameters: Mapping[str, Value] = field(default_factory=dict)
    is_cut: bool = False


def make_plan(
    recipe: Recipe,
    base: Base,
    vectors: Mapping[str, Vector],
    dtype: str | None = None,
    active: Sequence[Active] | None = None,
) -> Plan:
    """The plan of ``recipe``; ``vectors`` by their names in it, ``dtype`` for every float tensor if given.

    ``active`` are the vectors that act, with the diagonals that the method weighs them by; worked out if not given.
    """
    active = active_vectors(recipe, base, vectors) if active is None else active
    for entry in recipe.vectors:
        check_patterns(entry, vectors[entry.name])
    check_growth(base, active)
    _check_count(recipe, active)
    left_out = dropped(active)
    names = {**base.tensors, **{n: None for a in active for n in a.vector.names if a.at(n) > 0}}
    outputs = []
    for name in sorted(names, key=natural):
        if name not in left_out and (output := _output(name, recipe, base, active, dtype)) is not None:
            outputs.append(output)
    return Plan(tuple(outputs), recipe.method, recipe.scale, _settings(recipe))


def _settings(recipe: Recipe, entry: Entry | None = None) -> dict[str, Value]:
    own = entry.parameters if entry is not None else {}
    return methods.settings(methods.load(recipe.method).PARAMETERS, recipe.parameters, own)


def _check_count(recipe: Recipe, active: Sequence[Active]) -> None:
    least, most = methods.vectors_taken(methods.load(recipe.method))
    if active and not least <= len(active) <= (most or len(active)):
        wanted = f"{least}" if least == most else f"{least} or {most}" if most else f"at least {least}"
        raise UsageError(
            f"{recipe.method} merges {wanted} vector{'s' if wanted != '1' else ''}, and the recipe has {len(active)}: "
            f"{', '.join(a.name for a in active)}",
            "Choose another method ('persona methods'), or set the alpha of the others to 0.",
        )


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which ``layers.2`` comes before ``layers.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _output(name: str, recipe: Recipe, base: Base, active: Sequence[Active], dtype: str | None) -> Output | None:
    before = base.spec(name)
    touching = [touch for a in active if (touch := touch_at(a, name, base)) is not None]
    if before is None:
        touching = [t for t in touching if t.alpha > 0]
    if name not in base.tensors and not any(a.vector.brings(name) and a.at(name) > 0 for a in active):
        return None
    dense = [one for touch in touching for one in touch.dense if before is not None or one.share > 0]
    shape = agreed_shape(name, before, [one for one in dense if one.share > 0])
    wanted = dtype if dtype and _computable(before, dense) else _dtype(name, base, active)
    copy = _copied(recipe, before, touching, dense, wanted, shape)
    if copy is not None:
        return Output(name, wanted, shape, before, copy=copy)
    terms = _terms(name, recipe, active, touching, before, base) if before is not None else ()
    output = Output(name, wanted, shape, before, None, terms, _carried(before, shape, dense))
    _check_computable(output, dense)
    return output


def _terms(
    name: str, recipe: Recipe, active: Sequence[Active], touching: list[Touch], before: TensorSpec, base: Base
) -> tuple[Term, ...]:
    """The vectors that touch a tensor; where the method counts all, the others too, in recipe order."""
    method = methods.load(recipe.method)
    there = {t.active.name: t for t in touching}
    terms = []
    for a in active if touching and methods.counts_every(method) else [t.active for t in touching]:
        touch = there.get(a.name)
        alpha = touch.alpha if touch else _alpha_of_absent(a, name)
        settings = _settings(recipe, a.entry)
        key = draw_key(str(settings.get("seed", 0)), a.entry.id, name)
        terms.append(Term(a.name, alpha, touch.source if touch else None, key, settings))
    what = methods.alphas_complaint(method, [term.alpha for term in terms]) if terms else None
    if what is not None:
        raise UsageError(what, f"At {name} they are {', '.join(f'{t.vector} {t.alpha:g}' for t in terms)}.")
    if methods.weighs(method) and len(terms) > 1:
        return _weighed(terms, recipe, [t.active for t in touching], before, base.names_of(name))
    return tuple(terms)


def _weighed(
    terms: list[Term], recipe: Recipe, active: list[Active], before: TensorSpec, names: tuple[str, ...]
) -> tuple[Term, ...]:
    """Terms with their diagonals; as they are if one of these has nothing of the tensor."""
    found = [_weight(one, recipe.method, before, names) for one in active]
    return tuple(replace(term, weight=one) for term, one in zip(terms, found, strict=True)) if all(found) else (*terms,)


def _weight(active: Active, method: str, before: TensorSpec, names: tuple[str, ...]) -> Weight | None:
    """What a vector is weighed by at a tensor of these names; None if its diagonal has nothing of it."""
    diagonal, again = active.diagonal, f"persona fisher {active.name} --data FILE.jsonl"
    if diagonal is None:
        raise Refusal(
            f"method '{method}' weighs vector '{active.name}' at {names[0]} by its Fisher diagonal, and it has none",
            f"Estimate it: {again}; or choose another method.",
        )
    spec = next((one for name in names if (one := diagonal.tensors.get(name)) is not None), None)
    if spec is None:
        return None
    if (spec.dtype, spec.shape) != ("F32", before.shape):
        raise Refusal(
            f"the Fisher diagonal of vector '{active.name}' has {names[0]} as {spec.dtype} {list(spec.shape)}, "
            f"and it must be F32 {list(before.shape)}, as the base's",
            f"Estimate it anew: {again}",
        )
    return Weight(spec, Size(diagonal.mean, diagonal.norm or 0.0))


def _alpha_of_absent(active: Active, name: str) -> float:
    """How strong a vector would be at a tensor that it leaves alone: by its depth or pattern, else its largest."""
    return alphas.alpha_at(active.entry.alpha, name, active.depths) or max(alphas.numbers(active.entry.alpha), key=abs)


def _computable(before: TensorSpec | None, dense: list[Dense]) -> bool:
    specs = [one.spec for one in dense] + ([before] if before else [])
    return all(spec.dtype in ARITHMETIC for spec in specs)


def _dtype(name: str, base: Base, active: Sequence[Active]) -> str:
    """What all full fine-tunes have the tensor in (one that leaves it alone has the base's), else the base's."""
    before, names = base.spec(name), base.names_of(name)
    runs = [part for a in active if a.entry.touches(a.called(name, base)) for _, part in a.vector.weighted]
    specs = [next((run.tensors[n] for n in names if n in run.tensors), before) for run in runs if run.form in WHOLE]
    if before is None:
        specs = [run.tensors[name] for run in runs if name in run.tensors]
    agreed = {spec.dtype for spec in specs if spec is not None}
    if len(agreed) == 1:
        return agreed.pop()
    return before.dtype if before is not None else max(agreed, key=lambda dtype: (BITS[dtype], dtype))


def _copied(
    recipe: Recipe,
    before: TensorSpec | None,
    touching: list[Touch],
    dense: list[Dense],
    dtype: str,
    shape: tuple[int, ...],
) -> TensorSpec | None:
    """The stored tensor that the output is, bit for bit; None if it has to be computed."""
    source: Source | None = None
    if not touching:
        source = before
    elif before is None:
        source = dense[0].spec if len({one.spec.id for one in dense}) == 1 else None
    elif len(touching) == 1 and _is_kept_whole(recipe, touching[0]):
        source = touching[0].source
    if not isinstance(source, TensorSpec):
        return None
    return source if (source.dtype, source.shape) == (dtype, shape) else None


def _is_kept_whole(recipe: Recipe, touch: Touch) -> bool:
    """Whether one vector alone comes out as it is: λα = 1, and a method that adds it up and leaves nothing out."""
    return recipe.method == "linear" and touch.alpha * recipe.scale == 1.0


def _carried(before: TensorSpec | None, shape: tuple[int, ...], dense: list[Dense]) -> tuple[Carried, ...]:
    if before is not None and shape == before.shape:
        return ()
    bringing = [one for one in dense if one.share > 0 and one.spec.shape == shape]
    total = sum(one.share for one in bringing)
    return tuple(Carried(one.touch.active.name, one.share / total, one.spec, one.part) for one in bringing)


def _check_computable(output: Output, dense: list[Dense]) -> None:
    for vector, spec in [("", output.base), *((one.touch.active.name, one.spec) for one in dense)]:
        if spec is not None and spec.dtype not in ARITHMETIC:
            whose = f"vector '{vector}' has" if vector else "the base has"
            raise Refusal(
                f"{output.name}: {whose} it as {spec.dtype}, which persona keeps but does not add",
                f'Keep vectors off it with except = ["{output.name}"], or use a dequantized checkpoint.',
            )
