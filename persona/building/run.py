"""Running a plan: every output tensor is streamed block by block, on all cores.

A worker holds a few blocks at a time, whatever the model's size, or one whole tensor if the method needs that. Blocks
are combined in fp32, rounded once, hashed and passed to a sink. The store verifies what is read against its id on the
way, and nothing is published before every stream has been read to its end.

A computed NaN is written as the positive quiet one without a payload, because which payload survives an operation on
two NaNs differs between processors, and in numpy even between places of an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Protocol

from persona import kernels, methods
from persona.building.budget import DEFAULT, Budget
from persona.building.lengths import Lengths, lengths_of
from persona.building.plan import Output, Plan, thin_rank
from persona.building.rounding import narrowed, rounded
from persona.building.scratch import Scratch
from persona.building.streams import (
    Delta,
    Stream,
    mean,
    open_delta,
    products_of,
    streams_of,
    tau_blocks,
    weights_of,
)
from persona.building.wholecut import with_cuts
from persona.ids import TensorId, tensor_hasher
from persona.progress import SILENT, Progress, Task
from persona.store.nouns import TensorSpec
from persona.store.tensors import TensorStore
from persona.threads import Stopped, run_all

if TYPE_CHECKING:
    from persona.building.device import Device
    from persona.checkpoints.dtypes import Bits, Float32
    from persona.kernels import Kernels
    from persona.methods.parts.rules import Rule
    from persona.methods.parts.work import Piece, Work
    from persona.store.tensors import Room

BLOCK = 1 << 18
"""Entries per block: a few blocks fit into a core's cache, and packs are divided at the same places."""

_DECOMPOSED = 8
"""Size of a matrix's smaller side at which decomposing it takes as long as reading it."""

_WIDEST = 40
"""Bytes per entry that a method over whole matrices needs, beside 4 per vector: for fp64 copies and factors."""

_BASES = 40
"""Bytes that such a method needs for each row and column and each rank, where it works in core space."""


class Sink(Protocol):
    """Where finished blocks go."""

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Write a block of tensor ``name`` that starts at ``entry``; called from any thread."""


def run(
    plan: Plan,
    store: TensorStore,
    sink: Sink,
    progress: Progress = SILENT,
    loops: Kernels | None = None,
    *,
    block: int = BLOCK,
    memory: int = DEFAULT,
    on: Device | None = None,
    compare: bool = False,
    identify: bool = True,
) -> dict[str, TensorId]:
    """Build every output of a plan into ``sink``.

    The resulting bytes depend neither on ``loops``, ``block`` and ``memory`` nor on the number of threads.

    Args:
        plan: What to build.
        store: Where tensors are read from.
        sink: Where finished blocks go.
        loops: The kernels to use. By default those of :func:`loops_for`.
        block: Entries per block, a multiple of 4096.
        memory: Bytes of tensors to hold at once.
        on: The GPU to compute on. By default the CPU.
        compare: Say so in a note if the merged change is much longer or shorter than that of ``linear``.
        identify: Hash what is built.

    Returns:
        The tensor ids by name; nothing without ``identify``.
    """
    stop = Event()
    loops = loops or loops_for(plan)
    plan = with_cuts(plan, store, progress)
    costs = {output.name: _cost(plan, output) for output in plan.outputs}
    with ExitStack() as stack:
        task = stack.enter_context(progress.task("building", sum(costs.values()), "weights"))
        stack.enter_context(one_thread_each(plan))
        lengths = lengths_of(plan) if compare else None
        blocks = _Blocks(plan, store, block, loops, Scratch(), Budget(memory), on, lengths)
        worker = _Worker(blocks, sink, task, stop, costs, identify)
        costly_first = sorted(plan.outputs, key=lambda output: -costs[output.name])
        ids = run_all({o.name: partial(worker.build, o) for o in costly_first}, stop)
    if lengths is not None and (note := lengths.note()) is not None:
        progress.note(note)
    return {name: id_ for name, id_ in ids.items() if id_ is not None}


def streamed(
    plan: Plan, store: TensorStore, progress: Progress = SILENT, *, memory: int = DEFAULT
) -> tuple[Plan, Callable[[Output], Iterator[Bits]]]:
    """Prepare to build outputs one at a time, without a sink.

    Returns:
        The plan with its edges filled in, and a function that yields the blocks of one of its outputs. A block is only
        valid until the next one is read. Call it within :func:`one_thread_each`.
    """
    loops = loops_for(plan)
    plan = with_cuts(plan, store, progress)
    return plan, _Blocks(plan, store, BLOCK, loops, Scratch(), Budget(memory), None).of


def _cost(plan: Plan, output: Output) -> int:
    """The cost of a tensor for the progress bar, where reading an entry costs 1.

    Decomposing a matrix takes time in proportion to rows × columns × the smaller of both.
    """
    if not output.terms or len(output.shape) != 2 or not methods.takes_matrices(methods.load(plan.method)):
        return output.entries
    if thin_rank(output) is not None:
        return output.entries
    return output.entries * (1 + min(output.shape) // _DECOMPOSED)


def one_thread_each(plan: Plan) -> ExitStack:
    """Limit BLAS to one thread per call if the method uses it: each core has its own matrix, and sums keep their order."""
    stack = ExitStack()
    if methods.takes_matrices(methods.load(plan.method)):
        from threadpoolctl import threadpool_limits

        stack.enter_context(threadpool_limits(1, "blas"))
    return stack


def loops_for(plan: Plan) -> Kernels:
    """Choose the kernels for a plan, by the number of entries to decode, add and round."""
    return kernels.choose(sum(_work(output) for output in plan.outputs))


def _work(output: Output) -> int:
    if output.copy is not None:
        return 0 if output.copy == output.base else output.entries
    return output.entries * (2 + len(output.terms))


@dataclass(frozen=True)
class _Worker:
    blocks: _Blocks
    sink: Sink
    task: Task
    stop: Event
    costs: Mapping[str, int]
    identify: bool

    def build(self, output: Output) -> TensorId | None:
        """Build one tensor, from its first block to its last."""
        import numpy as np

        with np.errstate(all="ignore"):  # weights may hold infinities and NaNs
            return self._build(output)

    def _build(self, output: Output) -> TensorId | None:
        hasher = tensor_hasher(output.dtype, output.shape) if self.identify else None
        each = self.costs[output.name] // max(1, output.entries)
        at = 0
        for bits in self.blocks.of(output):
            if self.stop.is_set():
                raise Stopped
            if hasher is not None:
                hasher.update(bits)
            self.sink.write(output.name, at, bits)
            at += len(bits)
            self.task.advance(each * len(bits))
        return TensorId(hasher.hexdigest()) if hasher is not None else None


@dataclass(frozen=True)
class _Blocks:
    """Computes the blocks of a tensor."""

    plan: Plan
    store: TensorStore
    block: int
    loops: Kernels
    scratch: Scratch
    budget: Budget
    on: Device | None
    lengths: Lengths | None = None

    def of(self, output: Output) -> Iterator[Bits]:
        """Yield the blocks of an output; each is valid until the next is read."""
        if output.copy is not None:
            return self.store.blocks(output.copy.id, self.block)
        return self._combined(output)

    def _combined(self, output: Output) -> Iterator[Bits]:
        """The rows that the base has, then the rows that only vectors have."""
        deltas = [
            open_delta(term, self.store, self.block, partial(self._room, number))
            for number, term in enumerate(output.terms)
        ]
        carried = {(c.vector, c.part): Stream(self.store, c.source) for c in output.carried}
        for term, delta in zip(output.terms, deltas, strict=True):
            for part, stream in streams_of(delta).items():
                if (term.vector, part) in carried:
                    # The same stream: the base's rows have been read from it when the new rows are needed.
                    carried[term.vector, part] = stream
        if output.base is not None:
            yield from self._changed_rows(output, output.base, deltas)
        start = output.base.entries if output.base is not None else 0
        for at in range(start, output.entries, self.block):
            yield self._carried_rows(output, carried, min(self.block, output.entries - at))
        for stream in carried.values():
            stream.drain()
        for delta in deltas:
            delta.drain()

    def _room(self, term: int, part: int) -> Room:
        return self.scratch.room((term, part))

    def _carried_rows(self, output: Output, carried: dict[tuple[str, int], Stream], count: int) -> Bits:
        """The next new rows: unchanged if one vector brings them, else the mean."""
        streams = [carried[c.vector, c.part] for c in output.carried]
        if len(output.carried) == 1 and output.carried[0].source.dtype == output.dtype:
            return streams[0].take(count)
        pairs = zip(streams, output.carried, strict=True)
        return rounded(mean([(stream.take_fp32(count), c.share) for stream, c in pairs]), output)

    def _changed_rows(self, output: Output, base: TensorSpec, deltas: list[Delta]) -> Iterator[Bits]:
        before, weights = Stream(self.store, base), weights_of(output, self.store, self.block)
        if not deltas:
            for start in range(0, base.entries, self.block):
                yield rounded(before.take_fp32(min(self.block, base.entries - start)), output)
        elif self.on is not None:
            yield from self._on_device(self.on, output, base, deltas, before, weights)
        elif self.loops.FUSED and self._is_fusable():
            yield from self._fused(output, base, deltas, before)
        else:
            yield from self._by_rule(output, base, deltas, before, weights)
        for stream in (before, *weights):
            stream.drain()

    def _on_device(
        self, on: Device, output: Output, base: TensorSpec, deltas: list[Delta], before: Stream, weights: list[Stream]
    ) -> Iterator[Bits]:
        from persona.building.device import changed_rows

        with self.budget.borrowed(4 * base.entries * (len(deltas) + len(weights) + 1)):
            yield from changed_rows(on, self.plan, output, base, deltas, before, weights, self.block, self.lengths)

    def _is_fusable(self) -> bool:
        from persona.building import fused

        return fused.can(self.plan) and fused.trusted()

    def _fused(self, output: Output, base: TensorSpec, deltas: list[Delta], before: Stream) -> Iterator[Bits]:
        from persona.building import fused

        work = self._work(output, base, deltas, before, self.block)
        job = fused.Job(
            self.plan,
            output,
            base,
            self.store,
            self.block,
            self.scratch,
            self.budget,
            deltas,
            before,
            work,
            self.lengths,
        )
        for out in fused.blocks(job):
            yield out if fused.form_of(output) == "BF16" else narrowed(out, output)

    def _by_rule(
        self, output: Output, base: TensorSpec, deltas: list[Delta], before: Stream, weights: list[Stream]
    ) -> Iterator[Bits]:
        """Combine with the method's own numpy code."""
        from persona.methods.parts import rules

        method = methods.load(self.plan.method)
        rank = thin_rank(output) if methods.takes_matrices(method) else None
        if rank is not None:
            yield from self._in_core(rules.in_core(method), output, base, deltas, before, rank)
            return
        rule = rules.rule(method)
        step = _step(rule, base, self.block)
        work = self._work(output, base, deltas, before, step)
        held = base.entries * (4 * (len(deltas) + 1) + _WIDEST) if rule.cut == rules.WHOLE else 0
        with self.budget.borrowed(held):
            state = rule.prepare(work)
            for piece in _pieces(base, deltas, before, weights, step):
                yield from self._finished(rule, work, piece, state, output)

    def _in_core(
        self, rule: Rule, output: Output, base: TensorSpec, deltas: list[Delta], before: Stream, rank: int
    ) -> Iterator[Bits]:
        """Combine the cores of thin factors; no τ is multiplied out."""
        step = _step(rule, base, self.block)
        work = replace(self._work(output, base, deltas, before, step), products=products_of(deltas))
        with self.budget.borrowed(sum(base.shape) * rank * _BASES):
            state = rule.prepare(work)
            for piece in _pieces(base, [], before, [], step):
                yield from self._finished(rule, work, piece, state, output)

    def _finished(self, rule: Rule, work: Work, piece: Piece, state: object, output: Output) -> Iterator[Bits]:
        """W = W_base + λδ, rounded, for one piece, which may be larger than a block."""
        combined = rule.combine if self.lengths is None else partial(self.lengths.combined, rule)
        delta = combined(work, piece, state)
        if self.plan.scale != 1.0:
            delta *= _fp32(self.plan.scale)
        delta += piece.base
        for start in range(0, len(delta), self.block):
            yield rounded(delta[start : start + self.block], output)

    def _work(self, output: Output, base: TensorSpec, deltas: list[Delta], before: Stream, step: int) -> Work:
        """The tensor as the method sees it: it may read it again, through new streams."""
        from persona.methods.parts.work import Work

        def afresh() -> Iterator[Piece]:
            own = [open_delta(term, self.store, self.block) for term in output.terms]
            weights = weights_of(output, self.store, self.block)
            yield from _pieces(base, own, Stream(self.store, base), weights, step)
            for delta in own:
                delta.drain()
            for weight in weights:
                weight.drain()

        return Work(
            output.name,
            base.shape,
            tuple(term.share for term in output.terms),
            self.plan.parameters,
            lambda number: tau_blocks(output.terms[number], base, self.store, step),
            afresh,
        )


def _pieces(base: TensorSpec, deltas: list[Delta], before: Stream, weights: list[Stream], step: int) -> Iterator[Piece]:
    from persona.methods.parts.work import Piece

    for start in range(0, base.entries, step):
        count = min(step, base.entries - start)
        w = before.take_fp32(count)
        taus = [delta.take(w, start, count) for delta in deltas]
        yield Piece(start, w, taus, [weight.take_fp32(count) for weight in weights])


def _step(rule: Rule, base: TensorSpec, block: int) -> int:
    """Entries per piece, as the method requires: a block, whole rows, or the whole tensor."""
    from persona.methods.parts import rules

    if rule.cut == rules.ANYWHERE:
        return block
    columns = base.shape[-1] if len(base.shape) > 1 and rule.cut == rules.ROWS else max(1, base.entries)
    return max(1, block // max(1, columns)) * max(1, columns)


def _fp32(value: float) -> Float32:
    import numpy as np

    number: Float32 = np.float32(value)  # type: ignore[assignment]
    return number
