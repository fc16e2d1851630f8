"""Carrying out a plan: every output tensor is streamed block by block, on all cores.

A worker holds a few blocks at a time, whatever the model's size: one of the base, one of each vector; they are
combined in fp32, rounded once, hashed and written where they belong. What is read is verified by the store against
its id as it goes by, and nothing is published before every stream has come to its end.

A NaN that is computed is written as the positive quiet one without a payload. Which payload survives where two NaNs
meet differs between processors, and in numpy between places of an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event, local
from typing import TYPE_CHECKING, Any, Protocol

from persona import kernels, methods
from persona.building.plan import Output, Plan, Term
from persona.checkpoints.dtypes import ARITHMETIC, narrow, overflowed, widen
from persona.errors import Refusal
from persona.ids import TensorId, tensor_hasher
from persona.methods.lowrank import delta_rows
from persona.progress import SILENT, Progress, Task
from persona.store.nouns import LowRankSpec, TensorSpec
from persona.store.tensors import TensorStore
from persona.threads import Stopped, run_all

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32
    from persona.kernels import Kernels, Weights
    from persona.store.tensors import Room

BLOCK = 1 << 17
"""Entries per block: a few of them stay in a core's cache, and packs are cut in the same places."""


class Sink(Protocol):
    """Where finished blocks go."""

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Write a block of tensor ``name`` that begins at ``entry``; called from any thread."""


def run(
    plan: Plan,
    store: TensorStore,
    sink: Sink,
    progress: Progress = SILENT,
    loops: Kernels | None = None,
    *,
    block: int = BLOCK,
) -> dict[str, TensorId]:
    """Build every output into ``sink``; their tensor ids.

    The bytes do not depend on ``block``, on threads, or on ``loops``, which are those of :func:`loops_for` if None.
    """
    stop = Event()
    loops = loops or loops_for(plan)
    with progress.task("building", sum(o.entries for o in plan.outputs), "weights") as task:
        worker = _Worker(plan, store, sink, task, stop, block, loops, _Scratch())
        largest_first = sorted(plan.outputs, key=lambda output: -output.entries)
        return run_all({o.name: partial(worker.build, o) for o in largest_first}, stop)


def loops_for(plan: Plan) -> Kernels:
    """The kernels that a build of ``plan`` is worth: by the entries that are decoded, added up or rounded."""
    return kernels.choose(sum(_work(output) for output in plan.outputs))


def _work(output: Output) -> int:
    if output.copy is not None:
        return 0 if output.copy == output.base else output.entries
    return output.entries * (2 + len(output.terms))


class _Scratch(local):
    """Arrays that a thread uses again for every block; one for each role."""

    def __init__(self) -> None:
        self._bytes: dict[object, Any] = {}

    def array(self, role: object, count: int, dtype: str) -> Any:
        """``count`` entries that hold anything."""
        import numpy as np

        size = count * np.dtype(dtype).itemsize
        if role not in self._bytes or len(self._bytes[role]) < size:
            self._bytes[role] = np.empty(size, np.uint8)
        return self._bytes[role][:size].view(dtype)

    def room(self, role: object) -> Room:
        """Where the store may put the blocks of one tensor."""
        return lambda count, width: self.array(role, count, f"<u{width}")


@dataclass(frozen=True)
class _Worker:
    plan: Plan
    store: TensorStore
    sink: Sink
    task: Task
    stop: Event
    block: int
    loops: Kernels
    scratch: _Scratch

    def build(self, output: Output) -> TensorId:
        """One tensor, from its first block to its last."""
        import numpy as np

        with np.errstate(all="ignore"):  # infinities and NaNs are the weights' own business
            return self._build(output)

    def _build(self, output: Output) -> TensorId:
        hasher = tensor_hasher(output.dtype, output.shape)
        at = 0
        for bits in self._blocks(output):
            if self.stop.is_set():
                raise Stopped
            hasher.update(bits)
            self.sink.write(output.name, at, bits)
            at += len(bits)
            self.task.advance(len(bits))
        return TensorId(hasher.hexdigest())

    def _blocks(self, output: Output) -> Iterator[Bits]:
        if output.copy is not None:
            return self.store.blocks(output.copy.id, self.block)
        return self._combined(output)

    def _combined(self, output: Output) -> Iterator[Bits]:
        """The rows that the base has, then the rows that only vectors have."""
        rooms = [self.scratch.room(number) for number in range(len(output.terms))]
        deltas = [_delta(*pair, self.store, self.block) for pair in zip(output.terms, rooms, strict=True)]
        carried = {c.vector: Stream(self.store, c.source) for c in output.carried}
        for delta in deltas:
            if isinstance(delta, _DenseDelta) and delta.vector in carried:
                carried[delta.vector] = delta.stream
        if output.base is not None:
            yield from self._changed_rows(output, output.base, deltas)
        start = output.base.entries if output.base is not None else 0
        for at in range(start, output.entries, self.block):
            yield self._carried_rows(output, carried, min(self.block, output.entries - at))
        for stream in [*carried.values(), *(d.stream for d in deltas if isinstance(d, _DenseDelta))]:
            stream.drain()

    def _carried_rows(self, output: Output, carried: dict[str, Stream], count: int) -> Bits:
        """As they are if one vector brings them, else the mean."""
        if len(output.carried) == 1 and output.carried[0].source.dtype == output.dtype:
            return carried[output.carried[0].vector].take(count)
        return _rounded(_mean([(carried[c.vector].take_fp32(count), c.share) for c in output.carried]), output)

    def _changed_rows(self, output: Output, base: TensorSpec, deltas: list[Delta]) -> Iterator[Bits]:
        method = methods.load(self.plan.method)
        alphas = [term.alpha for term in output.terms]
        before = Stream(self.store, base)
        fused = methods.fused(method) if deltas and self.loops.FUSED else None
        for start in range(0, base.entries, self.block):
            count = min(self.block, base.entries - start)
            if fused is not None:
                yield self._fused(fused, output, base, deltas, before, start, count)
                continue
            w = before.take_fp32(count)
            taus = [delta.take(w, start, count) for delta in deltas]
            yield _rounded(method.combine(w, taus, alphas, self.plan.scale, self.plan.parameters), output)
        before.drain()

    def _fused(
        self,
        fused: methods.Fused,
        output: Output,
        base: TensorSpec,
        deltas: list[Delta],
        before: Stream,
        start: int,
        count: int,
    ) -> Bits:
        """One block in the method's own loops; it lies in scratch space."""
        form = _form(output, base)
        w = before.take_as(form, count)
        terms = (delta.term(form, start, count) for delta in deltas)
        total = self.scratch.array("total", count, "<f4")
        out = self.scratch.array("out", count, "<u2" if form == "BF16" else "<f4")
        alphas = [term.alpha for term in output.terms]
        fused(self.loops, w, terms, alphas, self.plan.scale, self.plan.parameters, total, out)
        return out if form == "BF16" else _narrowed(out, output)


def _form(output: Output, base: TensorSpec) -> str:
    """What the kernels are given and give: BF16 if everything is, else fp32."""
    specs = [term.source for term in output.terms if isinstance(term.source, TensorSpec)]
    return "BF16" if {base.dtype, output.dtype, *(spec.dtype for spec in specs)} == {"BF16"} else "F32"


def _rounded(values: Float32, output: Output) -> Bits:
    import numpy as np

    if np.isnan(values.max(initial=-np.inf)):
        values[np.isnan(values)] = np.nan
    return _narrowed(values, output)


def _narrowed(values: Float32, output: Output) -> Bits:
    bits = narrow(values, output.dtype)
    if overflowed(values, bits, output.dtype):
        raise Refusal(
            f"{output.name} has values beyond the range of {output.dtype}",
            "Build it in a wider format (--dtype bf16 or fp32), or lower the alphas.",
        )
    return bits


def _mean(shares: list[tuple[Float32, float]]) -> Float32:
    total, share = shares[0]
    if share != 1.0:
        total *= share
    for values, share in shares[1:]:
        values *= share
        total += values
    return total


class Stream:
    """A stored tensor, taken front to back in pieces of any size; with ``room``, one piece at a time."""

    def __init__(self, store: TensorStore, spec: TensorSpec, block: int = BLOCK, room: Room | None = None) -> None:
        self._blocks = store.blocks(spec.id, block, room)
        self._dtype = spec.dtype
        self._rest: Bits | None = None

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
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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

    def term(self, form: str, start: int, count: int) -> methods.Term:
        """The same entries for a fused method: weights in ``form``, or τ."""


class _DenseDelta:
    """τ = fp32(W) − fp32(W_base)."""

    def __init__(self, vector: str, stream: Stream) -> None:
        self.vector = vector
        self.stream = stream

    def take(self, base: Float32, start: int, count: int) -> Float32:
        delta = self.stream.take_fp32(count)
        delta -= base
        return delta

    def term(self, form: str, start: int, count: int) -> methods.Term:
        return methods.Term(self.stream.take_as(form, count), is_delta=False)


class _LowRankDelta:
    """τ = s · L · R, row by row."""

    def __init__(self, store: TensorStore, spec: LowRankSpec) -> None:
        self._left = factor(store, spec.left, spec.left_transposed)
        self._right = factor(store, spec.right, spec.right_transposed)
        self._scale = spec.scale

    def take(self, base: Float32 | None, start: int, count: int) -> Float32:
        columns = self._right.shape[1]
        first, last = start // columns, -(-(start + count) // columns)
        rows = delta_rows(self._left, self._right, self._scale, first, last).reshape(-1)
        return rows[start - first * columns :][:count]

    def term(self, form: str, start: int, count: int) -> methods.Term:
        return methods.Term(self.take(None, start, count), is_delta=True)


def factor(store: TensorStore, spec: TensorSpec, transposed: bool) -> Float32:
    """A low-rank factor in fp32, as a matrix; what was kept as [r, …] or [rows, r, 1, 1] becomes 2-D."""
    import numpy as np

    matrix = widen(store.read(spec.id).reshape(-1), spec.dtype).reshape(spec.shape[0], -1)
    return np.ascontiguousarray(matrix.T) if transposed else matrix


def _delta(term: Term, room: Room, store: TensorStore, block: int) -> Delta:
    if isinstance(term.source, LowRankSpec):
        return _LowRankDelta(store, term.source)
    return _DenseDelta(term.vector, Stream(store, term.source, block, room))


def tau(store: TensorStore, source: TensorSpec | LowRankSpec, base: TensorSpec | None) -> Float32:
    """One whole τ in fp32, in its tensor's shape; rows that ``base`` has not are given as they are."""
    if isinstance(source, LowRankSpec):
        assert base is not None, "a low-rank vector always has a base tensor"
        delta = _LowRankDelta(store, source)
        return delta.take(None, 0, base.entries).reshape(base.shape)
    if source.dtype not in ARITHMETIC:
        raise ValueError(f"{source.dtype} is no float format")
    values = widen(store.read(source.id).reshape(-1), source.dtype)
    if base is not None:
        values[: base.entries] -= widen(store.read(base.id).reshape(-1), base.dtype)
    return values.reshape(source.shape)
