"""What a build reads: stored tensors, and the τ of a vector, from front to back in blocks of any size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from persona.building.plan import Term
from persona.checkpoints.dtypes import ARITHMETIC, widen
from persona.methods.parts.lowrank import delta_rows
from persona.store.nouns import LowRankSpec, TensorSpec
from persona.store.packs import BLOCK
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.building.edges import Get
    from persona.checkpoints.dtypes import Bits, Float32
    from persona.kernels import Weights
    from persona.store.tensors import Room


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

    def __init__(self, vector: str, stream: Stream) -> None:
        self.vector = vector
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


def open_delta(term: Term, store: TensorStore, block: int, room: Room | None = None) -> Delta:
    """The τ of a term."""
    if term.source is None:
        return NoDelta()
    if isinstance(term.source, LowRankSpec):
        return LowRankDelta(store, term.source)
    return DenseDelta(term.vector, Stream(store, term.source, block, room))


def parts_of(term: Term, base: TensorSpec, store: TensorStore) -> Get:
    """Any part of a term's weights beside the base's, or of its τ where they are not both BF16; not checked."""
    import numpy as np

    source, before = term.source, store.source(base.id)[2]
    none: Any = np.empty(0, np.uint16)
    if isinstance(source, TensorSpec):
        weights = store.source(source.id)[2]
        if source.dtype == base.dtype == "BF16":
            return lambda start, stop: (weights(start, stop), before(start, stop))
        return partial(_widened, (weights, source.dtype), (before, base.dtype))
    delta = open_delta(term, store, BLOCK)
    return lambda start, stop: (delta.take(none, start, stop - start), none)


def _widened(ours: Any, theirs: Any, start: int, stop: int) -> tuple[Float32, Float32]:
    """τ of entries that are given as (a function that has them, their dtype)."""
    tau = widen(ours[0](start, stop), ours[1])
    tau -= widen(theirs[0](start, stop), theirs[1])
    return tau, tau[:0]


def tau_blocks(term: Term, base: TensorSpec, store: TensorStore, step: int, block: int = BLOCK) -> Iterator[Float32]:
    """One τ where the base has rows, in blocks of ``step`` entries."""
    delta, before = open_delta(term, store, block), Stream(store, base, block)
    for start in range(0, base.entries, step):
        count = min(step, base.entries - start)
        yield delta.take(before.take_fp32(count), start, count)
    delta.drain()
    before.drain()


def tau(store: TensorStore, source: TensorSpec | LowRankSpec, base: TensorSpec | None) -> Float32:
    """One whole τ in fp32, in its tensor's shape; rows that ``base`` has not are given as they are."""
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
