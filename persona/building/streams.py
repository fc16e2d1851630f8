"""What a build reads: stored tensors, and the τ of a vector, from front to back in blocks of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from persona.building.plan import Output, Term
from persona.checkpoints.dtypes import ARITHMETIC, widen
from persona.methods.parts.lowrank import delta_rows
from persona.store.nouns import LowRankSpec, Source, SumSpec, TensorSpec
from persona.store.packs import BLOCK
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.building.edges import Get
    from persona.checkpoints.dtypes import Bits, Float32
    from persona.kernels import Weights
    from persona.store.tensors import Room

    Rooms = Callable[[int], Room]


class Stream:
    """A stored tensor, taken front to back in pieces of any size; with ``room``, one piece at a time."""

    def __init__(self, store: TensorStore, spec: TensorSpec, block: int = BLOCK, room: Room | None = None) -> None:
        self._room = room
        self._target: Bits | None = None
        self._blocks = store.blocks(spec.id, block, self._place if room else None)
        self._dtype = spec.dtype
        self._rest: Bits | None = None

    def _place(self, count: int, width: int) -> Bits:
        """Room for the next block: where it is wanted, if it fits there."""
        if self._target is not None and count <= len(self._target) and width == self._target.itemsize:
            return self._target[:count]
        assert self._room is not None
        return self._room(count, width)

    def pour(self, target: Bits) -> None:
        """The next ``len(target)`` entries into ``target``; whole blocks are decoded right there."""
        import numpy as np

        while len(target):
            self._target = target if self._rest is None else None
            block = self._rest if self._rest is not None else next(self._blocks)
            part = block[: len(target)]
            if not np.may_share_memory(part, target):
                target[: len(part)] = part
            self._rest = block[len(part) :] if len(block) > len(part) else None
            target = target[len(part) :]
        self._target = None

    def take(self, count: int) -> Bits:
        """The next ``count`` entries."""
        import numpy as np

        parts: list[Bits] = []
        while count:
            if self._rest is None and parts:
                parts[-1] = parts[-1].copy()  # the next block may take its place
            block = self._rest if self._rest is not None else next(self._blocks)
            parts.append(block[:count])
            self._rest = block[count:] if len(block) > count else None
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def take_fp32(self, count: int) -> Float32:
        """The next ``count`` entries in fp32, in an array of their own."""
        return widen(self.take(count), self._dtype)

    def take_as(self, form: str, count: int) -> Weights:
        """The next ``count`` entries as BF16 bits or in fp32, not to be written to."""
        import numpy as np

        if form == self._dtype == "F32":
            return self.take(count).view(np.float32)
        return self.take(count) if form == self._dtype else self.take_fp32(count)

    def drain(self) -> None:
        """Read to the end, so that what was taken is verified."""
        for _ in self._blocks:
            pass


class Delta(Protocol):
    """A τ that is taken front to back."""

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """τ for ``count`` entries from ``start``, where the base has ``base``; an array of its own."""

    def drain(self) -> None:
        """Read to the end, so that what was taken is verified."""


class DenseDelta:
    """τ = fp32(W) - fp32(W_base)."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """As :class:`Delta` says."""
        delta = self.stream.take_fp32(count)
        delta -= base
        return delta

    def drain(self) -> None:
        """As :class:`Delta` says."""
        self.stream.drain()


class LowRankDelta:
    """τ = s · L · R, row by row."""

    def __init__(self, store: TensorStore, spec: LowRankSpec) -> None:
        self._left = factor(store, spec.left, spec.left_transposed)
        self._right = factor(store, spec.right, spec.right_transposed)
        self.scale = spec.scale

    @property
    def factors(self) -> tuple[Float32, Float32]:
        """L and R."""
        return self._left, self._right

    def take(self, base: Float32 | None, start: int, count: int) -> Float32:
        """As :class:`Delta` says."""
        columns = self._right.shape[1]
        first, last = start // columns, -(-(start + count) // columns)
        rows = delta_rows(self._left, self._right, self.scale, first, last).reshape(-1)
        return rows[start - first * columns :][:count]

    def drain(self) -> None:
        """Factors are read, and verified, whole."""


class SumDelta:
    """τ = c₁τ₁ + c₂τ₂ + …: each product and each sum rounded to fp32, in this order."""

    def __init__(self, parts: list[tuple[float, Delta]]) -> None:
        self.parts = parts

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """As :class:`Delta` says."""
        return weighted_sum((c, delta.take(base, start, count)) for c, delta in self.parts)

    def drain(self) -> None:
        """As :class:`Delta` says."""
        for _, delta in self.parts:
            delta.drain()


def weighted_sum(parts: Iterable[tuple[float, Float32]]) -> Float32:
    """Σ cᵢ·τᵢ as :class:`SumDelta` says; the arrays are used up."""
    import numpy as np

    total: Float32 | None = None
    for coefficient, values in parts:
        if coefficient != 1.0:
            values *= np.float32(coefficient)
        if total is None:
            total = values
        else:
            total += values
    assert total is not None, "a sum has a part"
    return total


def streams_of(delta: Delta) -> dict[int, Stream]:
    """The whole tensors that a τ is read from, by their place in the sum that it is."""
    parts = [one for _, one in delta.parts] if isinstance(delta, SumDelta) else [delta]
    return {number: one.stream for number, one in enumerate(parts) if isinstance(one, DenseDelta)}


class NoDelta:
    """τ = 0: a vector that leaves the tensor alone and yet counts."""

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """Zeros."""
        import numpy as np

        return np.zeros(count, np.float32)

    def drain(self) -> None:
        """Nothing was read."""


def factor(store: TensorStore, spec: TensorSpec, transposed: bool) -> Float32:
    """A low-rank factor in fp32, as a matrix; what was kept as [r, …] or [rows, r, 1, 1] becomes 2-D."""
    import numpy as np

    matrix = widen(store.read(spec.id).reshape(-1), spec.dtype).reshape(spec.shape[0], -1)
    return np.ascontiguousarray(matrix.T) if transposed else matrix


def open_delta(term: Term, store: TensorStore, block: int, room: Rooms | None = None) -> Delta:
    """The τ of a term; ``room`` has a place for the blocks of each of its parts."""
    if term.source is None:
        return NoDelta()
    if not isinstance(term.source, SumSpec):
        return _one_delta(term.source, store, block, room(0) if room else None)
    parts = enumerate(term.source.parts)
    return SumDelta([(c, _one_delta(spec, store, block, room(n) if room else None)) for n, (c, spec) in parts])


def weights_of(output: Output, store: TensorStore, block: int) -> list[Stream]:
    """What the entries of an output's terms are weighed by, in their order; none where nothing is weighed."""
    return [Stream(store, term.weight.source, block) for term in output.terms if term.weight is not None]


def _one_delta(spec: TensorSpec | LowRankSpec, store: TensorStore, block: int, room: Room | None) -> Delta:
    if isinstance(spec, LowRankSpec):
        return LowRankDelta(store, spec)
    return DenseDelta(Stream(store, spec, block, room))


def parts_of(term: Term, base: TensorSpec, store: TensorStore) -> Get:
    """Any part of a term's weights beside the base's, or of its τ where they are not both BF16; not checked."""
    import numpy as np

    source, before = term.source, store.source(base.id)[2]
    if isinstance(source, TensorSpec) and source.dtype == base.dtype == "BF16":
        weights = store.source(source.id)[2]
        return lambda start, stop: (weights(start, stop), before(start, stop))
    none: Any = np.empty(0, np.float32)
    tau = _anywhere(source, base, store)
    return lambda start, stop: (tau(start, stop), none)


def _anywhere(source: Source | None, base: TensorSpec, store: TensorStore) -> Callable[[int, int], Float32]:
    """Any part of a τ."""
    import numpy as np

    if isinstance(source, SumSpec):
        parts = [(c, _anywhere(one, base, store)) for c, one in source.parts]
        return lambda start, stop: weighted_sum((c, tau(start, stop)) for c, tau in parts)
    if isinstance(source, TensorSpec):
        weights, before = store.source(source.id)[2], store.source(base.id)[2]
        return partial(_widened, (weights, source.dtype), (before, base.dtype))
    if source is None:
        return lambda start, stop: np.zeros(stop - start, np.float32)
    delta = LowRankDelta(store, source)
    return lambda start, stop: delta.take(None, start, stop - start)


def _widened(ours: Any, theirs: Any, start: int, stop: int) -> Float32:
    """τ of entries that are given as (a function that has them, their dtype)."""
    tau = widen(ours[0](start, stop), ours[1])
    tau -= widen(theirs[0](start, stop), theirs[1])
    return tau


def tau_blocks(term: Term, base: TensorSpec, store: TensorStore, step: int, block: int = BLOCK) -> Iterator[Float32]:
    """One τ where the base has rows, in blocks of ``step`` entries."""
    delta, before = open_delta(term, store, block), Stream(store, base, block)
    for start in range(0, base.entries, step):
        count = min(step, base.entries - start)
        yield delta.take(before.take_fp32(count), start, count)
    delta.drain()
    before.drain()


def tau(store: TensorStore, source: Source, base: TensorSpec | None) -> Float32:
    """One whole τ in fp32, in its tensor's shape; rows that ``base`` has not are given as a build carries them."""
    if isinstance(source, SumSpec):
        return _whole_sum(store, source, base)
    if isinstance(source, LowRankSpec):
        assert base is not None, "a low-rank vector always has a base tensor"
        delta = LowRankDelta(store, source)
        return delta.take(None, 0, base.entries).reshape(base.shape)
    if source.dtype not in ARITHMETIC:
        raise ValueError(f"{source.dtype} is no float format")
    values = widen(store.read(source.id).reshape(-1), source.dtype)
    if base is not None:
        values[: base.entries] -= widen(store.read(base.id).reshape(-1), base.dtype)
    return values.reshape(source.shape)


def _whole_sum(store: TensorStore, source: SumSpec, base: TensorSpec | None) -> Float32:
    """The sum where the base has entries; behind them the mean of what terms with a positive coefficient bring."""
    import numpy as np

    count = base.entries if base is not None else 0
    parts = [(c, tau(store, one, base)) for c, one in source.parts]
    bringing = [(c, one) for c, one in parts if c > 0 and (base is None or one.shape != base.shape)]
    known = [weighted_sum((c, one.reshape(-1)[:count].copy()) for c, one in parts)] if count else []
    total = sum(c for c, _ in bringing)
    rows = [mean([(one.reshape(-1)[count:], c / total) for c, one in bringing])] if bringing else []
    shape = bringing[0][1].shape if bringing else parts[0][1].shape if base is None else base.shape
    return np.concatenate([*known, *rows]).reshape(shape)


def mean(shares: list[tuple[Float32, float]]) -> Float32:
    """What several vectors bring, by their shares in it; the arrays are used up."""
    total, share = shares[0]
    if share != 1.0:
        total *= share
    for values, share in shares[1:]:
        values *= share
        total += values
    return total
