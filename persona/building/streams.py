"""What a build reads: stored tensors, and the τ of a vector, front to back in blocks of any size."""

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
    from persona.methods.parts.work import Product
    from persona.store.tensors import Room

    Rooms = Callable[[int], Room]


class Blocks:
    """A tensor in blocks, read front to back in pieces of any size. A piece is only valid until the next is read."""

    def __init__(self, blocks: Iterator[Bits]) -> None:
        self._blocks = blocks
        self._rest: Bits | None = None

    def take(self, count: int) -> Bits:
        """The next ``count`` entries."""
        import numpy as np

        parts: list[Bits] = []
        while count:
            if self._rest is None and parts:
                parts[-1] = parts[-1].copy()  # the next block may reuse its memory
            block = self._rest if self._rest is not None else next(self._blocks)
            parts.append(block[:count])
            self._rest = block[count:] if len(block) > count else None
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def drain(self) -> None:
        """Read to the end, which verifies everything that was taken."""
        for _ in self._blocks:
            pass


class Stream(Blocks):
    """A stored tensor. With ``room``, its blocks are decoded into memory that is reused."""

    def __init__(self, store: TensorStore, spec: TensorSpec, block: int = BLOCK, room: Room | None = None) -> None:
        self._room = room
        self._target: Bits | None = None
        self._dtype = spec.dtype
        super().__init__(store.blocks(spec.id, block, self._place if room else None))

    def _place(self, count: int, width: int) -> Bits:
        """Memory for the next block: the target of :meth:`pour`, if the block fits."""
        if self._target is not None and count <= len(self._target) and width == self._target.itemsize:
            return self._target[:count]
        assert self._room is not None
        return self._room(count, width)

    def pour(self, target: Bits) -> None:
        """Read the next ``len(target)`` entries into ``target``, decoding whole blocks in place."""
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

    def take_fp32(self, count: int) -> Float32:
        """The next ``count`` entries in fp32, in a new array."""
        return widen(self.take(count), self._dtype)

    def take_as(self, form: str, count: int) -> Weights:
        """The next ``count`` entries as BF16 bits or fp32; read-only."""
        import numpy as np

        if form == self._dtype == "F32":
            return self.take(count).view(np.float32)
        return self.take(count) if form == self._dtype else self.take_fp32(count)


class Delta(Protocol):
    """A τ that is read front to back."""

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """τ for ``count`` entries from ``start`` in a new array; ``base`` has the base's entries there."""

    def drain(self) -> None:
        """Read to the end, which verifies everything that was taken."""


class DenseDelta:
    """τ = fp32(W) - fp32(W_base)."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """See :class:`Delta`."""
        delta = self.stream.take_fp32(count)
        delta -= base
        return delta

    def drain(self) -> None:
        """See :class:`Delta`."""
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
        """See :class:`Delta`; ``base`` is not used."""
        columns = self._right.shape[1]
        first, last = start // columns, -(-(start + count) // columns)
        rows = delta_rows(self._left, self._right, self.scale, first, last).reshape(-1)
        return rows[start - first * columns :][:count]

    def drain(self) -> None:
        """Do nothing: factors are read and verified whole."""


class SumDelta:
    """τ = c₁τ₁ + c₂τ₂ + …: each product and each sum rounded to fp32, in this order."""

    def __init__(self, parts: list[tuple[float, Delta]]) -> None:
        self.parts = parts

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """See :class:`Delta`."""
        return weighted_sum((c, delta.take(base, start, count)) for c, delta in self.parts)

    def drain(self) -> None:
        """See :class:`Delta`."""
        for _, delta in self.parts:
            delta.drain()


def weighted_sum(parts: Iterable[tuple[float, Float32]]) -> Float32:
    """Σ cᵢ·τᵢ as defined by :class:`SumDelta`. Overwrites the arrays."""
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
    """The streams of whole tensors that a τ is read from, by term number (0 unless it is a sum)."""
    parts = [part for _, part in delta.parts] if isinstance(delta, SumDelta) else [delta]
    return {number: part.stream for number, part in enumerate(parts) if isinstance(part, DenseDelta)}


def products_of(deltas: Iterable[Delta]) -> list[list[Product]]:
    """Each τ as a sum of products of factors; see :func:`persona.building.plan.thin_rank` for where that is possible."""
    from persona.methods.parts.work import Product

    found = []
    for delta in deltas:
        parts = delta.parts if isinstance(delta, SumDelta) else [(1.0, delta)]
        lows = [(c, part) for c, part in parts if isinstance(part, LowRankDelta)]
        found.append([Product(*part.factors, c * part.scale) for c, part in lows])
    return found


class NoDelta:
    """τ = 0, for a vector that leaves the tensor alone but still counts."""

    def take(self, base: Float32, start: int, count: int) -> Float32:
        """Zeros."""
        import numpy as np

        return np.zeros(count, np.float32)

    def drain(self) -> None:
        """Do nothing: nothing was read."""


def factor(store: TensorStore, spec: TensorSpec, transposed: bool) -> Float32:
    """Read a low-rank factor as an fp32 matrix; one stored as [r, …] or [rows, r, 1, 1] is flattened to 2-D."""
    import numpy as np

    matrix = widen(store.read(spec.id).reshape(-1), spec.dtype).reshape(spec.shape[0], -1)
    return np.ascontiguousarray(matrix.T) if transposed else matrix


def open_delta(term: Term, store: TensorStore, block: int, room: Rooms | None = None) -> Delta:
    """Open the τ of a term; ``room`` provides memory for the blocks of each of its parts."""
    if term.source is None:
        return NoDelta()
    if not isinstance(term.source, SumSpec):
        return _one_delta(term.source, store, block, room(0) if room else None)
    parts = enumerate(term.source.parts)
    return SumDelta([(c, _one_delta(spec, store, block, room(n) if room else None)) for n, (c, spec) in parts])


def weights_of(output: Output, store: TensorStore, block: int) -> list[Stream]:
    """Open the Fisher diagonals of an output's terms, in their order; empty if the method weighs nothing."""
    return [Stream(store, term.weight.source, block) for term in output.terms if term.weight is not None]


def _one_delta(spec: TensorSpec | LowRankSpec, store: TensorStore, block: int, room: Room | None) -> Delta:
    if isinstance(spec, LowRankSpec):
        return LowRankDelta(store, spec)
    return DenseDelta(Stream(store, spec, block, room))


def parts_of(term: Term, base: TensorSpec, store: TensorStore) -> Get:
    """A function that reads any part of a term, unchecked: its weights and the base's if both are BF16, else its τ."""
    import numpy as np

    source, before = term.source, store.source(base.id)[2]
    if isinstance(source, TensorSpec) and source.dtype == base.dtype == "BF16":
        weights = store.source(source.id)[2]
        return lambda start, stop: (weights(start, stop), before(start, stop))
    none: Any = np.empty(0, np.float32)
    tau = _anywhere(source, base, store)
    return lambda start, stop: (tau(start, stop), none)


def _anywhere(source: Source | None, base: TensorSpec, store: TensorStore) -> Callable[[int, int], Float32]:
    """A function that reads any part of a τ."""
    import numpy as np

    if isinstance(source, SumSpec):
        parts = [(c, _anywhere(part, base, store)) for c, part in source.parts]
        return lambda start, stop: weighted_sum((c, tau(start, stop)) for c, tau in parts)
    if isinstance(source, TensorSpec):
        weights, before = store.source(source.id)[2], store.source(base.id)[2]
        return partial(_widened, (weights, source.dtype), (before, base.dtype))
    if source is None:
        return lambda start, stop: np.zeros(stop - start, np.float32)
    delta = LowRankDelta(store, source)
    return lambda start, stop: delta.take(None, start, stop - start)


def _widened(ours: Any, theirs: Any, start: int, stop: int) -> Float32:
    """τ of the entries from start to stop; ``ours`` and ``theirs`` are (a function that reads entries, their dtype)."""
    tau = widen(ours[0](start, stop), ours[1])
    tau -= widen(theirs[0](start, stop), theirs[1])
    return tau


def tau_blocks(term: Term, base: TensorSpec, store: TensorStore, step: int, block: int = BLOCK) -> Iterator[Float32]:
    """Yield the τ of a term, where the base has rows, in blocks of ``step`` entries."""
    delta, before = open_delta(term, store, block), Stream(store, base, block)
    for start in range(0, base.entries, step):
        count = min(step, base.entries - start)
        yield delta.take(before.take_fp32(count), start, count)
    delta.drain()
    before.drain()


def tau(store: TensorStore, source: Source, base: TensorSpec | None) -> Float32:
    """Read one whole τ in fp32, in its tensor's shape. New rows are returned unscaled, as a build carries them."""
    if isinstance(source, SumSpec):
        return _whole_sum(store, source, base)
    if isinstance(source, LowRankSpec):
        assert base is not None, "a low-rank vector always has a base tensor"
        delta = LowRankDelta(store, source)
        return delta.take(None, 0, base.entries).reshape(base.shape)
    if source.dtype not in ARITHMETIC:
        raise ValueError(f"{source.dtype} is not a float dtype")
    values = widen(store.read(source.id).reshape(-1), source.dtype)
    if base is not None:
        values[: base.entries] -= widen(store.read(base.id).reshape(-1), base.dtype)
    return values.reshape(source.shape)


def _whole_sum(store: TensorStore, source: SumSpec, base: TensorSpec | None) -> Float32:
    """The sum where the base has entries, then the mean of the rows that terms with a positive coefficient add."""
    import numpy as np

    count = base.entries if base is not None else 0
    parts = [(c, tau(store, part, base)) for c, part in source.parts]
    bringing = [(c, values) for c, values in parts if c > 0 and (base is None or values.shape != base.shape)]
    known = [weighted_sum((c, values.reshape(-1)[:count].copy()) for c, values in parts)] if count else []
    total = sum(c for c, _ in bringing)
    rows = [mean([(values.reshape(-1)[count:], c / total) for c, values in bringing])] if bringing else []
    shape = bringing[0][1].shape if bringing else parts[0][1].shape if base is None else base.shape
    return np.concatenate([*known, *rows]).reshape(shape)


def mean(shares: list[tuple[Float32, float]]) -> Float32:
    """The mean of arrays, weighted by their shares. Overwrites the arrays."""
    total, share = shares[0]
    if share != 1.0:
        total *= share
    for values, share in shares[1:]:
        values *= share
        total += values
    return total
