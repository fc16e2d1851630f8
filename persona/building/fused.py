"""Methods of the family "sparsify, then combine" in compiled loops, with the same bits as the numpy version.

If its vectors have to be trimmed, a tensor is decoded once and held in memory, provided that the budget has room for
it now: edges are found and vectors merged from there. Otherwise the vectors are read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from persona import methods
from persona.building.budget import Budget
from persona.building.edges import Magnitudes
from persona.building.lengths import SAMPLE, Lengths
from persona.building.plan import Output, Plan
from persona.building.streams import Delta, DenseDelta, Stream, parts_of
from persona.methods.parts import family, rules
from persona.methods.parts.family import Thinned
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import Share
from persona.methods.parts.work import Work
from persona.store.nouns import TensorSpec

if TYPE_CHECKING:
    from persona.building.edges import Get
    from persona.building.scratch import Scratch
    from persona.store.tensors import TensorStore


@dataclass(frozen=True)
class Job:
    """One output with everything that its blocks need; ``deltas`` and ``before`` have not been read from yet."""

    plan: Plan
    output: Output
    base: TensorSpec
    store: TensorStore
    block: int
    scratch: Scratch
    budget: Budget
    deltas: list[Delta]
    before: Stream
    work: Work
    lengths: Lengths | None = None

    @property
    def shares(self) -> tuple[Share, ...]:
        """What the method knows about the vectors."""
        return self.work.shares


def can(plan: Plan) -> bool:
    """Whether a plan's method has compiled loops."""
    kind = rules.family_of(methods.load(plan.method))
    return kind is not None and kind.sparsify != "ranked"


def form_of(output: Output) -> str:
    """The form that the loops read and write: BF16 if everything is, else F32."""
    assert output.base is not None
    specs = [term.source for term in output.terms]
    dense = {spec.dtype if isinstance(spec, TensorSpec) else "F32" for spec in specs}
    return "BF16" if {output.base.dtype, output.dtype, *dense} == {"BF16"} else "F32"


def blocks(job: Job) -> Iterator[Any]:
    """Yield W in rounded blocks, as BF16 bits or fp32 (see :func:`form_of`). Each is valid until the next is read."""
    kind = rules.family_of(methods.load(job.plan.method))
    assert kind is not None
    if kind.sparsify not in ("trim", "outliers"):
        yield from _streamed(job, kind, family.prepare(kind, job.work))
        return
    width = 2 if form_of(job.output) == "BF16" else 4
    with job.budget.if_free(width * job.base.entries * len(job.deltas)) as held:
        if held:
            yield from _from_memory(job, kind)
        else:
            yield from _streamed(job, kind, [_cut(job, kind, number) for number in range(len(job.shares))])


def _from_memory(job: Job, kind: Family) -> Iterator[Any]:
    dtype = np.uint16 if form_of(job.output) == "BF16" else np.float32
    rows, base = np.empty((len(job.deltas), job.base.entries), dtype), _base_bits(job)
    for start in range(0, job.base.entries, job.block):
        _fill(job, rows[:, start : start + job.block], base[start : start + job.block], start)
    none = base[:0]

    def look(row: Any) -> Get:
        return lambda start, stop: (row[start:stop], none if dtype == np.float32 else base[start:stop])

    looks = [Magnitudes(job.base.entries, s.key, look(row)) for row, s in zip(rows, job.shares, strict=True)]
    thinned = [Thinned(look.cut(kind.sparsify, share)) for look, share in zip(looks, job.shares, strict=True)]
    merge = _Merge(job, kind, thinned)
    for start in range(0, job.base.entries, job.block):
        w = job.before.take_as(form_of(job.output), min(job.block, job.base.entries - start))
        yield merge(w, rows, start, start)


def _cut(job: Job, kind: Family, number: int) -> Thinned:
    """Find the cut of one vector. It is read unchecked for this; the later read that merges it is checked."""
    share, get = job.shares[number], parts_of(job.output.terms[number], job.base, job.store)
    return Thinned(Magnitudes(job.base.entries, share.key, get).cut(kind.sparsify, share))


def _base_bits(job: Job) -> Any:
    """The base's entries, unchecked: the blocks that are written come from a checked stream."""
    return job.store.source(job.base.id)[2](0, job.base.entries)


def _streamed(job: Job, kind: Family, thinned: list[Thinned]) -> Iterator[Any]:
    form = form_of(job.output)
    merge = _Merge(job, kind, thinned)
    rows = job.scratch.array("rows", len(job.deltas) * job.block, "<u2" if form == "BF16" else "<f4")
    rows = rows.reshape(len(job.deltas), job.block)
    for start in range(0, job.base.entries, job.block):
        count = min(job.block, job.base.entries - start)
        w = job.before.take_as(form, count)
        _fill(job, rows[:, :count], w, start)
        yield merge(w, rows, 0, start)


def _fill(job: Job, rows: Any, base: Any, start: int) -> None:
    """Read one block of every vector into ``rows``: weights if they are BF16, else τ."""
    from persona.checkpoints.dtypes import widen

    wide = None
    for row, delta in zip(rows, job.deltas, strict=True):
        if rows.dtype == np.uint16:
            assert isinstance(delta, DenseDelta)
            delta.stream.pour(row)
            continue
        if wide is None:
            wide = base if base.dtype == np.float32 else widen(base, job.base.dtype)
        row[:] = delta.take(wide, start, len(row))


class _Merge:
    """The compiled merge, with everything that stays the same from block to block."""

    def __init__(self, job: Job, kind: Family, thinned: list[Thinned]) -> None:
        from persona.building.selfcheck import voter
        from persona.kernels import merging

        normalize = str(job.plan.parameters.get("normalize", "none"))
        weights = [family.weight(share, normalize) for share in job.shares]
        votes = [voter(*vote) for vote in zip(job.shares, thinned, weights, strict=True)]
        self._job = job
        self._thinned = thinned
        self._merge = merging.merge
        self._voters = merging.voters(votes)
        self._elect = kind.combine == "elect"
        self._mean = any(weights)

    def __call__(self, w: Any, rows: Any, at: int, start: int) -> Any:
        """Merge one block."""
        if self._job.lengths is not None and self._job.lengths.is_sampled(start, len(w)):
            self._sample(self._job.lengths, w, rows, at, start)
        out = self._job.scratch.array("out", len(w), "<u2" if rows.dtype == np.uint16 else "<f4")
        scale = self._job.plan.scale
        self._merge(w, rows, at, start, self._voters, self._elect, self._mean, scale, out)
        return out

    def _sample(self, lengths: Lengths, w: Any, rows: Any, at: int, start: int) -> None:
        from persona.checkpoints.dtypes import widen

        base, parts = w[:SAMPLE], rows[:, at : at + min(SAMPLE, len(w))]
        if rows.dtype == np.uint16:
            base = widen(base, "BF16")
            parts = [widen(part, "BF16") - base for part in parts]
        lengths.sample(self._job.work, start, base, list(parts), self._thinned)


@cache
def trusted() -> bool:
    """Whether the loops give numpy's bits on this machine, checked on entries where mistakes show."""
    from persona.building import selfcheck

    return selfcheck.merging_agrees()
