"""What a build will do, as pure data: for each output tensor where it comes from and where it goes.

Rules beyond the method's own arithmetic:

- A vector with alpha 0 is not there.
- A tensor that nothing touches is the base's, and one that a single dense vector touches with λα = 1 is that
  vector's: both are copied bit for bit.
- Rows and tensors that the base has not (new tokens, a value head) have nothing to differ from. They are carried,
  not scaled: as they are, or, where several vectors bring them, as the mean weighted by their alphas. Vectors
  with a negative alpha bring none.
- A tensor that a vector with positive alpha lacks is left out, unless another one changes it.
- dtype: as asked; else the one in which all full fine-tunes of the recipe have the tensor; else the base's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from persona.checkpoints.dtypes import ARITHMETIC, BITS
from persona.errors import Refusal, UsageError
from persona.recipe.model import Entry, Recipe
from persona.store.nouns import Base, LowRankSpec, TensorSpec, Vector

WHOLE = frozenset({"dense", "baked"})
"""Forms of vectors that have a dtype of their own: what changes is kept as whole tensors."""


@dataclass(frozen=True)
class Active:
    """A vector of the recipe whose alpha is not zero."""

    entry: Entry
    vector: Vector

    @property
    def name(self) -> str:
        """What the recipe calls it."""
        return self.entry.name

    @property
    def alpha(self) -> float:
        """Its strength."""
        return self.entry.alpha


@dataclass(frozen=True)
class Touch:
    """A vector that changes an output tensor, and by what."""

    active: Active
    source: TensorSpec | LowRankSpec


@dataclass(frozen=True)
class Term:
    """One αᵢτᵢ of an output tensor."""

    vector: str
    alpha: float
    source: TensorSpec | LowRankSpec


@dataclass(frozen=True)
class Carried:
    """Rows that the base has not, from one vector, with their share in the mean."""

    vector: str
    share: float
    source: TensorSpec


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
    """All output tensors, in the order in which they are written."""

    outputs: tuple[Output, ...]
    method: str
    scale: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


def make_plan(recipe: Recipe, base: Base, vectors: Mapping[str, Vector], dtype: str | None = None) -> Plan:
    """The plan of ``recipe``; ``vectors`` by their names in it, ``dtype`` for every float tensor if given."""
    active = [Active(e, vectors[e.name]) for e in recipe.vectors if e.alpha != 0]
    for entry in recipe.vectors:
        check_patterns(entry, vectors[entry.name])
    _check_growth(base, active)
    dropped = _dropped(active)
    names = {**base.tensors, **{n: None for a in active if a.alpha > 0 for n in a.vector.names}}
    outputs = []
    for name in sorted(names, key=natural):
        if name not in dropped and (output := _output(name, recipe, base, active, dtype)) is not None:
            outputs.append(output)
    return Plan(tuple(outputs), recipe.method, recipe.scale, recipe.parameters)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which ``layers.2`` comes before ``layers.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def check_patterns(entry: Entry, vector: Vector) -> None:
    """Raise if an ``only`` or ``except`` pattern matches none of the tensors that the vector says anything about."""
    names = [*vector.names, *vector.gone]
    for key, patterns in (("only", entry.only), ("except", entry.excepted)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"vectors.{entry.name}.{key}: '{pattern}' matches none of its {len(names)} tensors",
                    f"Its tensors are named like '{names[0]}'." if names else "It has no tensors.",
                )


def grown(base: Base, vector: Vector) -> list[str]:
    """The tensors to which a vector adds rows, and those it brings anew."""
    return [
        name
        for name, spec in vector.tensors.items()
        if name not in base.tensors or spec.shape != base.tensors[name].shape
    ]


def _check_growth(base: Base, active: Iterable[Active]) -> None:
    """Raise if ``only`` or ``except`` lets a vector grow one matrix of the vocabulary and not the other."""
    for a in active:
        rows = [name for name in grown(base, a.vector) if name in base.tensors]
        kept = [name for name in rows if a.entry.touches(name)]
        if a.alpha > 0 and kept and len(kept) < len(rows):
            left = next(name for name in rows if name not in kept)
            raise Refusal(
                f"vector '{a.name}' adds rows to {kept[0]} and is kept off {left}, to which it adds them too",
                "Embedding and head must have the same rows: let only and except name both or neither.",
            )


def _dropped(active: Iterable[Active]) -> set[str]:
    """Tensors that are left out, because a vector lacks them."""
    active = [a for a in active if a.alpha > 0]
    lacking = {name: a for a in active for name in a.vector.gone if a.entry.touches(name)}
    for name, lacks in lacking.items():
        for other in active:
            if name in other.vector.names and other.entry.touches(name):
                raise Refusal(
                    f"vector '{lacks.name}' was saved without {name}, and vector '{other.name}' changes it",
                    f'Decide in persona.toml: except = ["{name}"] on one of them.',
                )
    return set(lacking)


def _output(name: str, recipe: Recipe, base: Base, active: list[Active], dtype: str | None) -> Output | None:
    before = base.tensors.get(name) or base.tensors.get(base.tied.get(name, ""))
    touching = [Touch(a, source) for a in active if (source := _source(a, name, base)) is not None]
    if before is None:
        touching = [t for t in touching if t.active.alpha > 0]
    if name not in base.tensors and not any(
        a.alpha > 0 and name in a.vector.names and a.entry.touches(name) for a in active
    ):
        return None
    dense = [(t.active, t.source) for t in touching if isinstance(t.source, TensorSpec)]
    shape = _shape(name, before, [pair for pair in dense if pair[0].alpha > 0])
    wanted = dtype if dtype and _computable(before, dense) else _dtype(name, before, active)
    copy = _copied(recipe.scale, before, touching, dense, wanted, shape)
    if copy is not None:
        return Output(name, wanted, shape, before, copy=copy)
    terms = tuple(Term(t.active.name, t.active.alpha, t.source) for t in touching) if before is not None else ()
    output = Output(name, wanted, shape, before, None, terms, _carried(before, shape, dense))
    _check_computable(output, dense)
    return output


def _source(active: Active, name: str, base: Base) -> TensorSpec | LowRankSpec | None:
    """What a vector says of a tensor; of a head that this build unties, what it says of the matrix it was."""
    for own in (name, base.tied.get(name, "")):
        if own in active.vector.names:
            touched = active.entry.touches(own)
            return (active.vector.tensors.get(own) or active.vector.low_rank[own]) if touched else None
    return None


def _computable(before: TensorSpec | None, dense: list[tuple[Active, TensorSpec]]) -> bool:
    specs = [spec for _, spec in dense] + ([before] if before else [])
    return all(spec.dtype in ARITHMETIC for spec in specs)


def _dtype(name: str, before: TensorSpec | None, active: list[Active]) -> str:
    """What all full fine-tunes have the tensor in (one that leaves it alone has the base's), else the base's."""
    active = [a for a in active if a.entry.touches(name)]
    specs = [a.vector.tensors.get(name, before) for a in active if a.vector.form in WHOLE]
    if before is None:
        specs = [a.vector.tensors[name] for a in active if name in a.vector.tensors]
    agreed = {spec.dtype for spec in specs if spec is not None}
    if len(agreed) == 1:
        return agreed.pop()
    return before.dtype if before is not None else max(agreed, key=lambda dtype: (BITS[dtype], dtype))


def _shape(name: str, before: TensorSpec | None, dense: list[tuple[Active, TensorSpec]]) -> tuple[int, ...]:
    """The base's shape, or the larger one that vectors agree on."""
    shape = before.shape if before else dense[0][1].shape
    grower = None
    for active, spec in dense:
        if spec.shape == shape:
            grower = grower or (active if before is None else None)
            continue
        if before is not None and spec.shape == before.shape:
            continue
        if grower is not None:
            raise Refusal(
                f"vectors '{grower.name}' and '{active.name}' give {name} different shapes: "
                f"{list(shape)} and {list(spec.shape)}",
                "They added different tokens, or brought different heads: train them with the same ones, "
                f'or keep one out with except = ["{name}"].',
            )
        shape, grower = spec.shape, active
    return shape


def _copied(
    scale: float,
    before: TensorSpec | None,
    touching: list[Touch],
    dense: list[tuple[Active, TensorSpec]],
    dtype: str,
    shape: tuple[int, ...],
) -> TensorSpec | None:
    """The stored tensor that the output is, bit for bit; None if it has to be computed."""
    source: TensorSpec | None = None
    if not touching:
        source = before
    elif (len(touching) == 1 and dense and (before is None or touching[0].active.alpha * scale == 1.0)) or (
        before is None and len({spec.id for _, spec in dense}) == 1
    ):
        source = dense[0][1]
    return source if source is not None and (source.dtype, source.shape) == (dtype, shape) else None


def _carried(
    before: TensorSpec | None, shape: tuple[int, ...], dense: list[tuple[Active, TensorSpec]]
) -> tuple[Carried, ...]:
    if before is not None and shape == before.shape:
        return ()
    bringing = [(a, spec) for a, spec in dense if a.alpha > 0 and spec.shape == shape]
    total = sum(a.alpha for a, _ in bringing)
    return tuple(Carried(a.name, a.alpha / total, spec) for a, spec in bringing)


def _check_computable(output: Output, dense: list[tuple[Active, TensorSpec]]) -> None:
    for vector, spec in [("", output.base), *((a.name, spec) for a, spec in dense)]:
        if spec is not None and spec.dtype not in ARITHMETIC:
            whose = f"vector '{vector}' has" if vector else "the base has"
            raise Refusal(
                f"{output.name}: {whose} it as {spec.dtype}, which persona keeps but does not add",
                f'Keep vectors off it with except = ["{output.name}"], or use a dequantized checkpoint.',
            )
