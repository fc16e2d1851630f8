"""Comparing two sets of weights A and B, tensor by tensor: one pass over both, in blocks, on all cores.

    difference       ‖B − A‖, and relative to ‖A‖
    largest          max |B − A|
    differing        number of entries whose bits differ; if the dtypes differ, whose values differ
    grew, shrank     number of entries with |B| > |A|, and with |B| < |A|
    cosine, opposed  of the changes A − W and B − W from a base W: ⟨·, ·⟩/(‖·‖ ‖·‖), and the share of entries whose
                     signs differ, among those where both are non-zero. Vectors are changes themselves

Values are fp32 and sums fp64, independent of blocks and threads. If a tensor has more rows on one side, the common rows
are compared. Tensors of different shapes, and those that are not floats, are only counted as different. A figure that
is not a finite number is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from persona import kernels
from persona.building.contents import Part, Parts
from persona.building.interference import BY, cosine, root, share
from persona.building.plan import natural
from persona.building.streams import Blocks
from persona.checkpoints.dtypes import ARITHMETIC, widen
from persona.errors import UsageError
from persona.methods.parts.sums import Dot
from persona.progress import SILENT, Progress, Task
from persona.recipe.alphas import layer_of
from persona.store.packs import BLOCK
from persona.threads import Stopped, run_all

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class TensorKind:
    """The dtype and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ChangedKind:
    """A tensor that only one side has (the other is null), or whose dtype or shape differs."""

    name: str
    before: TensorKind | None
    after: TensorKind | None


@dataclass(frozen=True)
class ComparisonFigures:
    """Figures of the whole model, a layer or a tensor.

    ``tensors`` counts those of either side, ``changed`` those that differ, ``entries`` the entries that were compared.
    Of these, ``differing`` are not equal, and ``grew`` and ``shrank`` count larger and smaller magnitudes.
    ``difference`` is ‖B − A‖, ``relative`` the same divided by ‖A‖, and ``largest`` the largest difference of an entry.
    ``cosine`` and ``opposed`` compare the changes from the base: their cosine, and the share of entries with opposite signs.
    """

    name: str
    tensors: int
    changed: int
    entries: int
    differing: int
    grew: int
    shrank: int
    norm_before: float | None
    norm_after: float | None
    difference: float | None
    relative: float | None
    largest: float | None
    cosine: float | None
    opposed: float | None


@dataclass(frozen=True)
class Comparison:
    """Two sets of weights compared.

    ``rows`` are the layers or tensors in which something differs, ``recast`` the tensors that only one side has or
    whose dtype or shape differs.
    """

    by: str
    whole: ComparisonFigures
    rows: tuple[ComparisonFigures, ...]
    recast: tuple[ChangedKind, ...]


@dataclass(frozen=True)
class _Pair:
    name: str
    before: Part | None
    after: Part | None
    base: Part | None

    @property
    def recast(self) -> ChangedKind | None:
        """The difference in dtype or shape; None if there is none."""
        before, after = (TensorKind(p.dtype, p.shape) if p else None for p in (self.before, self.after))
        return ChangedKind(self.name, before, after) if before != after else None

    @property
    def units(self) -> int:
        """Number of entries that can be compared: those of the rows that both have."""
        a, b = self.before, self.after
        if a is None or b is None or len(a.shape) != len(b.shape) or a.shape[1:] != b.shape[1:]:
            return 0
        return min(a.units, b.units) if a.dtype == b.dtype or {a.dtype, b.dtype} <= ARITHMETIC else 0


@dataclass
class _Sums:
    """Sums over one or more tensors: counts, and squares and products of A, B and their changes X and Y."""

    tensors: int = 0
    changed: int = 0
    entries: int = 0
    differing: int = 0
    grew: int = 0
    shrank: int = 0
    both: int = 0
    opposed: int = 0
    largest: float = 0.0
    squares: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("a", "b", "moved", "x", "y", "xy"), 0.0))

    def add(self, other: _Sums) -> None:
        """Add the sums of another tensor."""
        for name in ("tensors", "changed", "entries", "differing", "grew", "shrank", "both", "opposed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = float(np.maximum(self.largest, other.largest))  # a NaN stays
        for key, value in other.squares.items():
            self.squares[key] += value

    def figures(self, name: str) -> ComparisonFigures:
        """The figures of a report."""
        s = self.squares
        return ComparisonFigures(
            name, self.tensors, self.changed, self.entries, self.differing, self.grew, self.shrank,
            norm_before=_root(s["a"]),
            norm_after=_root(s["b"]),
            difference=_root(s["moved"]),
            relative=root(share(s["moved"], s["a"])) if s["a"] > 0 or s["moved"] > 0 else 0.0,
            largest=self.largest if np.isfinite(self.largest) else None,
            cosine=cosine(s["xy"], s["x"], s["y"]),
            opposed=share(self.opposed, self.both),
        )  # fmt: skip


def _root(square: float) -> float | None:
    return root(square) if np.isfinite(square) else None


def compare(
    before: Parts,
    after: Parts,
    base: Parts | None = None,
    *,
    changes: bool = False,
    by: str = "layer",
    progress: Progress = SILENT,
) -> Comparison:
    """Compare two sets of weights.

    Args:
        before: A.
        after: B.
        base: What both were changed from. Without it there are no cosines.
        changes: Whether ``before`` and ``after`` are changes themselves, as vectors are.
        by: ``layer`` or ``tensor``: what a row is.
    """
    if by not in BY:
        raise UsageError(f"cannot report by '{by}'", f"Use {' or '.join(BY)}.")
    pairs = _pairs(before, after, base or {})
    recast = tuple(difference for pair in pairs if (difference := pair.recast) is not None)
    unread = all(_is_same(pair) for pair in pairs)
    sums = _nothing(pairs) if unread else _measure_all(pairs, changes, progress)
    whole = _total(sums.values()).figures("model")
    if unread:
        whole = replace(whole, norm_before=None, norm_after=None)
    return Comparison(by, whole, tuple(_rows(sums, by)), recast)


def _pairs(before: Parts, after: Parts, base: Parts) -> list[_Pair]:
    names = sorted({*before, *after}, key=lambda name: (layer_of(name)[0], natural(name)))
    return [_Pair(name, before.get(name), after.get(name), base.get(name)) for name in names]


def _is_same(pair: _Pair) -> bool:
    return pair.before is not None and pair.after is not None and pair.before.is_surely(pair.after)


def _nothing(pairs: Sequence[_Pair]) -> dict[str, _Sums]:
    """Sums without differences, for tensors that are known to be equal and need not be read."""
    return {pair.name: _Sums(tensors=1, entries=pair.units) for pair in pairs}


def _measure_all(pairs: Sequence[_Pair], changes: bool, progress: Progress) -> dict[str, _Sums]:
    stop = Event()
    kernels.choose(2 * sum(pair.units for pair in pairs))
    with progress.task("comparing", sum(pair.units for pair in pairs), "weights") as task:
        worker = _Worker(changes, task, stop)
        largest_first = sorted(pairs, key=lambda pair: -pair.units)
        sums = run_all({pair.name: partial(worker.measure, pair) for pair in largest_first}, stop)
    return {pair.name: sums[pair.name] for pair in pairs}


def _total(parts: Iterable[_Sums]) -> _Sums:
    total = _Sums()
    for part in parts:
        total.add(part)
    return total


def _rows(sums: Mapping[str, _Sums], by: str) -> Iterator[ComparisonFigures]:
    groups: dict[str, list[_Sums]] = {}
    for name, tensor in sums.items():
        groups.setdefault(name if by == "tensor" else layer_of(name)[1], []).append(tensor)
    for name, parts in groups.items():
        total = _total(parts)
        if total.changed:
            yield total.figures(name)


@dataclass(frozen=True)
class _Worker:
    changes: bool
    task: Task
    stop: Event

    def measure(self, pair: _Pair) -> _Sums:
        """Compare one tensor."""
        with np.errstate(all="ignore"):  # weights may hold infinities and NaNs
            tally = _Tally(pair, self.changes)
            for count in tally.counts:
                if self.stop.is_set():
                    raise Stopped
                tally.add(count)
                self.task.advance(count)
            return tally.finish()


class _Tally:
    """Running sums of one tensor. Sides that are known to be equal are read only once."""

    def __init__(self, pair: _Pair, changes: bool) -> None:
        self._pair, self._changes = pair, changes
        parts = [part for part in (pair.before, pair.after, self._base()) if part is not None] if pair.units else []
        self._who = [
            next(k for k, other in enumerate(parts) if part is other or part.is_surely(other)) for part in parts
        ]
        self._dtypes = {k: parts[k].dtype for k in dict.fromkeys(self._who)}
        self._streams = {k: Blocks(parts[k].blocks()) for k in self._dtypes}
        self._measured = bool(parts) and {part.dtype for part in parts} <= ARITHMETIC
        self._dots = {key: Dot() for key in _Sums().squares}
        self.sums = _Sums(tensors=1)

    @property
    def counts(self) -> Iterator[int]:
        """Number of entries of each block."""
        units = self._pair.units
        return (min(BLOCK, units - start) for start in range(0, units, BLOCK))

    def _base(self) -> Part | None:
        """The base, if it has every row that is compared."""
        base, a = self._pair.base, self._pair.before
        if base is None or a is None or self._changes or base.shape[1:] != a.shape[1:]:
            return None
        return base if base.units >= self._pair.units and len(base.shape) == len(a.shape) else None

    def add(self, count: int) -> None:
        """Add the next ``count`` entries of every side."""
        taken = {k: stream.take(count) for k, stream in self._streams.items()}
        a, b, *_ = bits = [taken[k] for k in self._who]
        a_part, b_part = self._pair.before, self._pair.after
        assert a_part is not None
        assert b_part is not None
        same_format = a_part.dtype == b_part.dtype
        equal = a is b or (same_format and np.array_equal(a, b))
        self.sums.entries += count
        if not self._measured:
            self.sums.differing += 0 if equal else int(np.count_nonzero(a != b))
            return
        wide = {k: widen(taken[k], dtype) for k, dtype in self._dtypes.items()}
        values = [wide[k] for k in self._who]
        if equal:
            self._add_equal(values)
        else:
            self.sums.differing += int(np.count_nonzero(bits[0] != bits[1])) if same_format else _unequal(*values[:2])
            self._add_unequal(values)

    def _add_equal(self, values: list[Float32]) -> None:
        a = values[0]
        self._dot("a", a, a)
        self._dot("b", a, a)
        x = a if self._changes else a - values[2] if len(values) > 2 and values[2] is not a else None
        if x is not None:
            for key in ("x", "y", "xy"):
                self._dot(key, x, x)
            self.sums.both += int(np.count_nonzero(x))

    def _add_unequal(self, values: list[Float32]) -> None:
        a, b = values[:2]
        delta = b - a
        self._dot("a", a, a)
        self._dot("b", b, b)
        self._dot("moved", delta, delta)
        large, small = np.abs(b), np.abs(a)
        self.sums.grew += int(np.count_nonzero(large > small))
        self.sums.shrank += int(np.count_nonzero(large < small))
        self.sums.largest = float(np.maximum(self.sums.largest, np.abs(delta).max(initial=0.0)))
        if self._changes or len(values) > 2:
            self._add_changes(*((a, b) if self._changes else (a - values[2], b - values[2])))

    def _add_changes(self, x: Float32, y: Float32) -> None:
        self._dot("x", x, x)
        self._dot("y", y, y)
        self._dot("xy", x, y)
        product = np.sign(x) * np.sign(y)
        self.sums.both += int(np.count_nonzero(np.abs(product) == 1))
        self.sums.opposed += int(np.count_nonzero(product == -1))

    def _dot(self, key: str, x: Float32, y: Float32) -> None:
        self._dots[key].add(x, y)

    def finish(self) -> _Sums:
        """The final sums, after everything that was read has been verified."""
        for stream in self._streams.values():
            stream.drain()
        self.sums.changed = int(self._pair.recast is not None or self.sums.differing > 0)
        self.sums.squares = {key: dot.value for key, dot in self._dots.items()}
        return self.sums


def _unequal(a: Float32, b: Float32) -> int:
    """Number of entries with different values, where the dtypes differ. All NaNs count as equal."""
    return int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))
