"""The interference report: how far vectors agree, for the whole model and for each layer or tensor.

    norm             ‖τᵢ‖ / ‖W_base‖, without alpha
    cosine           ⟨αᵢτᵢ, αⱼτⱼ⟩ / (‖αᵢτᵢ‖ ‖αⱼτⱼ‖)
    opposed          the share of entries whose signs differ, among those where both vectors (of a pair) or at least
                     two (of all) are non-zero; before and after the trim
    survives         the share of a trimmed vector's mass Σ|v|, and of its entries, whose sign wins the election

and, compared with an earlier recipe:

    change           ‖δ − δ'‖ / ‖W_base‖ and cos(δ, δ'), with δ = λ Σ αᵢ τᵢ as in a linear merge
    retrained        ‖τ − τ'‖ / ‖τ'‖ and cos(τ, τ') of a vector whose weights were replaced by another run's

A share is None if there is nothing to divide by or the result is not finite. Layers are computed from sums, not from
shares.
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
"""What a row of the report can stand for."""


@dataclass(frozen=True)
class VectorFigures:
    """One vector. ``norm`` is ‖τ‖/‖W_base‖.

    ``survives`` is the share of its mass Σ|v| whose sign wins the election, ``survives_entries`` the share of its entries.
    """

    name: str
    norm: float | None
    survives: float | None
    survives_entries: float | None


@dataclass(frozen=True)
class PairFigures:
    """Two vectors: their cosine, and the share of entries where both are non-zero and their signs differ.

    ``opposed_trimmed`` is that share after the trim.
    """

    one: str
    other: str
    cosine: float | None
    opposed: float | None
    opposed_trimmed: float | None


@dataclass(frozen=True)
class ChangeFigures:
    """The sum δ of all vectors compared with that of the earlier recipe: ‖δ − δ'‖/‖W_base‖ and their cosine."""

    norm: float | None
    cosine: float | None


@dataclass(frozen=True)
class RetrainedFigures:
    """A vector compared with the earlier one of the same name: ‖τ − τ'‖/‖τ'‖ and their cosine."""

    name: str
    norm: float | None
    cosine: float | None


@dataclass(frozen=True)
class InterferenceRow:
    """The whole model, a layer or a tensor, with the vectors that change it.

    ``opposed`` is the share of entries where signs differ, among those where at least two vectors are non-zero.
    ``change`` and ``retrained`` compare with an earlier recipe.
    """

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
    """The interference report.

    ``densities`` has the share of entries that the trim keeps, for each of ``vectors``; ``assumed`` says that the method
    does not trim, and TIES' default was used.
    """

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
    """Measure how far the vectors of a recipe agree.

    Args:
        recipe: A resolved recipe.
        base: Its base.
        vectors: Its vectors.
        store: Where tensors are read from.
        before: An earlier recipe to compare with, and its vectors.
        by: ``layer`` or ``tensor``: what a row is.
        memory: Bytes of tensors to hold at once.
    """
    if by not in BY:
        raise UsageError(f"cannot report by '{by}'", f"Use {' or '.join(BY)}.")
    trim = Trim.of(recipe)
    subjects = measuring.subjects(trim, base, vectors, before)
    sums = measuring.measure_all(trim, subjects, store, progress, memory)
    entries = [entry for entry in recipe.vectors if acts(entry.alpha)]
    names = tuple(entry.name for entry in entries)
    blank = _Blank(names, _retrained(recipe, before), recipe.scale, before[0].scale if before else None)
    densities = tuple(float(trim.settings(entry)["density"]) for entry in entries)
    measured = list(zip(subjects, sums, strict=True))
    whole = _row("model", blank.total(measured), names)
    rows = tuple(_rows(blank, measured, names, by))
    return Interference(recipe.method, names, densities, trim.assumed, by, whole, rows)


def _retrained(recipe: Recipe, before: tuple[Recipe, Vectors] | None) -> tuple[str, ...]:
    then = {entry.name: entry.id for entry in before[0].vectors} if before else {}
    return tuple(entry.name for entry in recipe.vectors if then.get(entry.name, entry.id) != entry.id)


@dataclass(frozen=True)
class _Blank:
    """What every total starts with."""

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
    blank: _Blank, measured: Sequence[tuple[Subject, SignSums]], names: tuple[str, ...], by: str
) -> Iterable[InterferenceRow]:
    """One row for each layer or tensor that a vector of either recipe changes."""
    groups: dict[str, list[tuple[Subject, SignSums]]] = {}
    for subject, sums in measured:
        name = subject.output.name
        groups.setdefault(name if by == "tensor" else layer_of(name)[1], []).append((subject, sums))
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
        tuple(_against(total, name) for name in total.retrained),
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
    """part/whole; None if ``whole`` is 0 or the result is not finite."""
    ratio = float(part) / float(whole) if whole > 0 else math.nan
    return ratio if math.isfinite(ratio) else None


def root(square: float | None) -> float | None:
    """√square; 0 if rounding made it negative, None for None."""
    return None if square is None else math.sqrt(max(0.0, square))


def cosine(product: float, one: float, other: float) -> float | None:
    """The cosine of x and y from ⟨x, y⟩, ‖x‖² and ‖y‖²; None if one of them is zero."""
    size = share(abs(product), math.sqrt(one) * math.sqrt(other)) if one > 0 and other > 0 else None
    return None if size is None else math.copysign(min(1.0, size), product)
