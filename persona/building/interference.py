"""The interference report: how far vectors agree, for the whole model and for each layer or tensor.

    norm             ‖τᵢ‖ / ‖W_base‖                               without alpha
    cosine           ⟨αᵢτᵢ, αⱼτⱼ⟩ / (‖αᵢτᵢ‖ ‖αⱼτⱼ‖)
    opposed          of the entries where both (of a pair) or at least two (of all) are not zero, the share where
                     signs differ; before and after the trim
    survives         of a trimmed vector's mass Σ|v|, and of its entries, the share whose sign is elected

and, beside the recipe before:

    change           ‖δ − δ'‖ / ‖W_base‖ and cos(δ, δ'), with δ = λ Σ αᵢ τᵢ: what a linear merge makes of it
    retrained        ‖τ − τ'‖ / ‖τ'‖ and cos(τ, τ') of a vector that has another run's weights than before

A share of nothing, or of what is no finite number, is None. Layers are added up from sums, not from shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from persona.building import measuring
from persona.building.budget import DEFAULT
from persona.building.measuring import Subject, Trim, Vectors
from persona.building.totals import Total
from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.recipe.alphas import acts, layer_of
from persona.recipe.model import Recipe
from persona.store.nouns import Base
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.methods.parts.interference import SignSums

BY = ("layer", "tensor")
"""What a row of the report can be."""


@dataclass(frozen=True)
class VectorFigures:
    """One vector: ``norm`` is ‖τ‖/‖W_base‖, ``survives`` the share of its mass whose sign is elected."""

    name: str
    norm: float | None
    survives: float | None
    survives_entries: float | None


@dataclass(frozen=True)
class PairFigures:
    """Two vectors: their angle, and how often their signs differ where both are not zero."""

    one: str
    other: str
    cosine: float | None
    opposed: float | None
    opposed_trimmed: float | None


@dataclass(frozen=True)
class ChangeFigures:
    """What changed in the sum of the vectors since the recipe before."""

    norm: float | None
    cosine: float | None


@dataclass(frozen=True)
class RetrainedFigures:
    """A vector beside the one that had its name: ‖τ − τ'‖/‖τ'‖, and their cosine."""

    name: str
    norm: float | None
    cosine: float | None


@dataclass(frozen=True)
class InterferenceRow:
    """The model, a layer or a tensor; of the vectors, those that change it."""

    name: str
    tensors: int
    entries: int
    vectors: tuple[VectorFigures, ...]
    pairs: tuple[PairFigures, ...]
    opposed: float | None
    opposed_trimmed: float | None
    survives: float | None
    change: ChangeFigures | None
    retrained: tuple[RetrainedFigures, ...]


@dataclass(frozen=True)
class Interference:
    """``densities`` are those of the trim, by vector; they are ``assumed`` where the method does not trim."""

    method: str
    vectors: tuple[str, ...]
    densities: tuple[float, ...]
    assumed: bool
    by: str
    whole: InterferenceRow
    rows: tuple[InterferenceRow, ...]


def interference(
    recipe: Recipe,
    base: Base,
    vectors: Vectors,
    store: TensorStore,
    *,
    before: tuple[Recipe, Vectors] | None = None,
    by: str = "layer",
    progress: Progress = SILENT,
    memory: int = DEFAULT,
) -> Interference:
    """Of a resolved recipe and its vectors by name, beside those of the recipe ``before`` if given."""
    if by not in BY:
        raise UsageError(f"there is no report by '{by}'", f"Say by {' or '.join(BY)}.")
    trim = Trim.of(recipe)
    found = measuring.subjects(trim, base, vectors, before)
    sums = measuring.measure_all(trim, found, store, progress, memory)
    entries = [entry for entry in recipe.vectors if acts(entry.alpha)]
    names = tuple(entry.name for entry in entries)
    blank = _Blank(names, _retrained(recipe, before), recipe.scale, before[0].scale if before else None)
    densities = tuple(float(trim.settings(entry)["density"]) for entry in entries)
    whole = _row("model", blank.total(zip(found, sums, strict=True)), names)
    return Interference(
        recipe.method, names, densities, trim.assumed, by, whole, tuple(_rows(blank, found, sums, names, by))
    )


def _retrained(recipe: Recipe, before: tuple[Recipe, Vectors] | None) -> tuple[str, ...]:
    then = {entry.name: entry.id for entry in before[0].vectors} if before else {}
    return tuple(entry.name for entry in recipe.vectors if then.get(entry.name, entry.id) != entry.id)


@dataclass(frozen=True)
class _Blank:
    """What every total begins with."""

    names: tuple[str, ...]
    retrained: tuple[str, ...]
    scale: float
    scale_before: float | None

    def total(self, parts: Iterable[tuple[Subject, SignSums]]) -> Total:
        total = Total(self.names, self.retrained, self.scale, self.scale_before)
        for subject, sums in parts:
            total.add(subject, sums)
        return total


def _rows(
    blank: _Blank, found: Sequence[Subject], sums: Sequence[SignSums], names: tuple[str, ...], by: str
) -> Iterable[InterferenceRow]:
    """One for each layer or tensor that a vector changes, or changed."""
    groups: dict[str, list[tuple[Subject, SignSums]]] = {}
    for subject, one in zip(found, sums, strict=True):
        name = subject.output.name
        groups.setdefault(name if by == "tensor" else layer_of(name)[1], []).append((subject, one))
    for name, parts in groups.items():
        if any(subject.terms for subject, _ in parts):
            yield _row(name, blank.total(parts), names)


def _row(name: str, total: Total, names: tuple[str, ...]) -> InterferenceRow:
    there = [k for k, _ in enumerate(names) if total.changed[k]]
    return InterferenceRow(
        name,
        total.tensors,
        total.entries,
        tuple(_vector(total, k, names) for k in there),
        tuple(_pair(total, i, j, names) for i, j in combinations(there, 2)),
        share(total.plain.conflicting, total.plain.shared),
        share(total.trimmed.conflicting, total.trimmed.shared),
        share(total.elected_mass.sum(), total.mass.sum()),
        _change(total) if total.scale_before is not None else None,
        tuple(_against(total, one) for one in total.retrained),
    )


def _vector(total: Total, k: int, names: Sequence[str]) -> VectorFigures:
    return VectorFigures(
        names[k],
        root(share(total.squares[k], total.base)),
        share(total.elected_mass[k], total.mass[k]),
        share(total.elected[k], total.trimmed.both[k, k]),
    )


def _pair(total: Total, i: int, j: int, names: Sequence[str]) -> PairFigures:
    return PairFigures(
        names[i],
        names[j],
        cosine(total.dots[i, j], total.dots[i, i], total.dots[j, j]),
        share(total.plain.opposed[i, j], total.plain.both[i, j]),
        share(total.trimmed.opposed[i, j], total.trimmed.both[i, j]),
    )


def _change(total: Total) -> ChangeFigures:
    return ChangeFigures(
        root(share(total.moved, total.base)), cosine(total.delta_product, total.delta, total.delta_before)
    )


def _against(total: Total, name: str) -> RetrainedFigures:
    now, product, then = total.retrained[name]
    return RetrainedFigures(name, root(share(now - 2 * product + then, then)), cosine(product, now, then))


def share(part: float, whole: float) -> float | None:
    """part/whole; None of nothing, and where it is no finite number."""
    ratio = float(part) / float(whole) if whole > 0 else math.nan
    return ratio if math.isfinite(ratio) else None


def root(square: float | None) -> float | None:
    """√ of what is there; 0 of what rounding took below it."""
    return None if square is None else math.sqrt(max(0.0, square))


def cosine(product: float, one: float, other: float) -> float | None:
    """From ⟨x, y⟩, ‖x‖² and ‖y‖²; None where one of them is nothing."""
    found = share(abs(product), math.sqrt(one) * math.sqrt(other)) if one > 0 and other > 0 else None
    return None if found is None else math.copysign(min(1.0, found), product)
