"""A recipe as an adapter of a given rank: for each matrix that the build changes, the nearest B · A.

δ = W_build − W_base with a build in fp32. The plan is run as for a build, but into memory, and each matrix is
compressed by the thread that has just finished it. So every method and every kind of vector can be compressed, and a
worker holds one matrix at a time. Where a plain sum of LoRA vectors changes a matrix, δ already is a product of thin
factors: it is never multiplied out, and the factors are kept if their ranks add up to at most R.

What an adapter cannot represent (norms, biases, new rows, a tied head, …) stays as in the base. It is listed, and
counted in the total error ‖δ − BA‖_F / ‖δ‖_F over all tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from persona.building import truncate
from persona.building.adapter import Pair, Surroundings, changed, joined, stacked, unsaid
from persona.building.plan import Output, Plan
from persona.building.run import loops_for, run
from persona.building.units import Unit, together, units_of
from persona.checkpoints.adapters.writing import Module, Unsaid
from persona.checkpoints.dtypes import ARITHMETIC, narrow, widen
from persona.errors import Refusal
from persona.progress import SILENT, Progress
from persona.store.tensors import TensorStore
from persona.threads import run_all

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32


@dataclass(frozen=True)
class TensorError:
    """How closely an adapter matches one tensor's change: ``norm`` is ‖δ‖_F, ``error`` is ‖δ − BA‖_F / ‖δ‖_F."""

    name: str
    rank: int
    norm: float
    error: float


@dataclass(frozen=True)
class UncoveredTensor:
    """A tensor that an adapter leaves as in the base, and why.

    ``norm`` is the size of the change that is missing: ‖δ‖_F, or ‖W‖_F for new rows; null where it is undefined.
    """

    name: str
    why: str
    norm: float | None


@dataclass(frozen=True)
class Compressed:
    """The factors of every module, their errors, and what they leave out."""

    pairs: tuple[Pair, ...] = ()
    errors: tuple[TensorError, ...] = ()
    left_out: tuple[UncoveredTensor, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """‖δ − BA‖_F / ‖δ‖_F over every tensor that has a norm."""
        left = [tensor.norm or 0.0 for tensor in self.left_out]
        missed = math.hypot(*(tensor.norm * tensor.error for tensor in self.errors), *left)
        whole = math.hypot(*(tensor.norm for tensor in self.errors), *left)
        return missed / whole if whole else 0.0


@dataclass(frozen=True)
class _Done:
    """One unit's share of :class:`Compressed`."""

    pair: Pair | None = None
    errors: tuple[TensorError, ...] = ()
    left_out: UncoveredTensor | None = None


@dataclass(frozen=True)
class _Compressor:
    plan: Plan
    around: Surroundings
    store: TensorStore
    rank: int
    dtype: str

    def of_factors(self, unit: Unit) -> _Done:
        """Compress a change that is a product of thin factors."""
        import numpy as np

        factors = [self._factors(output, module) for output, module in unit.parts]
        ends = np.cumsum([0, *(len(right) for _, right in factors)])
        spread = [np.zeros((len(left), ends[-1]), np.float64) for left, _ in factors]
        for part, (left, _), at in zip(spread, factors, ends, strict=False):
            part[:, at : at + left.shape[1]] = left
        left, right = unit.stack(spread), np.concatenate([right for _, right in factors])
        whole = (left.astype(np.float32), right.astype(np.float32))
        kept = self._rounded(
            *(whole if left.shape[1] <= self.rank else truncate.nearest_product(left, right, self.rank))
        )
        norms, missed = [truncate.product_norm(*pair) for pair in factors], []
        for (_, module), (one, other) in zip(unit.parts, factors, strict=True):
            rows = kept[0][unit.rows(module)].astype(np.float64)
            missed.append(truncate.product_norm(np.concatenate([one, -rows], 1), np.concatenate([other, kept[1]])))
        return self._done(unit, kept, norms, missed)

    def _factors(self, output: Output, module: Module) -> tuple[truncate.Float64, truncate.Float64]:
        import numpy as np

        a, b = stacked(output, module, self.plan.scale, self.store)
        left, right = (matrix.astype(np.float64) for matrix in module.turned(a, b))
        return left, right

    def of_deltas(self, unit: Unit, deltas: Mapping[str, Float32]) -> _Done:
        """Compress changes that were computed entry by entry."""
        matrices = [deltas[output.name].reshape(output.shape[0], -1) for output, _ in unit.parts]
        norms = [self._norm(output, matrix) for (output, _), matrix in zip(unit.parts, matrices, strict=True)]
        if unit.module.kind == "experts":
            return self._of_experts(unit, matrices[0], norms)
        kept = self._rounded(*truncate.nearest(unit.stack(matrices), self.rank, unit.names[0]))
        missed = [
            truncate.residual_norm(matrix, kept[0][unit.rows(module)], kept[1])
            for (_, module), matrix in zip(unit.parts, matrices, strict=True)
        ]
        return self._done(unit, kept, norms, missed)

    def _of_experts(self, unit: Unit, matrix: Float32, norms: list[float]) -> _Done:
        """Compress a tensor of all experts: each on its own."""
        import numpy as np

        (output, module) = unit.parts[0]
        experts = matrix.reshape(output.shape)
        pairs = [
            self._rounded(*truncate.nearest(one, self.rank, f"{output.name}.{at}")) for at, one in enumerate(experts)
        ]
        missed = [truncate.residual_norm(one, *pair) for one, pair in zip(experts, pairs, strict=True)]
        left, right = np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
        error = TensorError(output.name, left.shape[2], norms[0], math.hypot(*missed) / norms[0] if norms[0] else 0.0)
        if not norms[0]:
            return _Done()
        return _Done(Pair(module, left.shape[2], partial(module.stacked, left, right)), (error,))

    def uncovered(self, output: Output, why: str, delta: Float32) -> _Done:
        """A change that the adapter leaves out; new rows are given as they are."""
        norm = self._norm(output, delta)
        return _Done(left_out=UncoveredTensor(output.name, why, norm) if norm else None)

    def _norm(self, output: Output, delta: Float32) -> float:
        norm = truncate.norm(delta)
        if not math.isfinite(norm):
            raise Refusal(
                f"the change to {output.name} contains NaN or infinity, so no adapter approximates it",
                f'Exclude it with except = ["{output.name}"], or lower the alphas.',
            )
        return norm

    def _rounded(self, left: Float32, right: Float32) -> tuple[Float32, Float32]:
        """The factors as they will be stored."""
        left, right = (widen(narrow(m, self.dtype), self.dtype) for m in (left, right))
        return left, right

    def _done(
        self, unit: Unit, kept: tuple[Float32, Float32], norms: Sequence[float], missed: Sequence[float]
    ) -> _Done:
        if not any(norms):
            return _Done()
        rank = kept[0].shape[1]
        errors = (
            TensorError(name, rank, norm, miss / norm)
            for name, norm, miss in zip(unit.names, norms, missed, strict=True)
            if norm
        )
        return _Done(Pair(unit.module, rank, partial(unit.module.turned, *kept)), tuple(errors))


@dataclass
class _Deltas:
    """A sink that compresses each unit, minus the base's weights, in the thread that finished its last tensor.

    ``units`` has the unit of each tensor, or why an adapter cannot represent the tensor.
    """

    outputs: dict[str, Output]
    units: Mapping[str, Unit | Unsaid]
    compressor: _Compressor
    done: dict[str, _Done] = field(default_factory=dict)
    _arrays: dict[str, Float32] = field(default_factory=dict)
    _finished: dict[str, Float32] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Keep a block; the blocks of a tensor arrive in order."""
        import numpy as np

        output = self.outputs[name]
        if entry == 0:
            self._arrays[name] = np.empty(output.entries, np.float32)
        self._arrays[name][entry : entry + len(bits)] = bits.view(np.float32)
        if entry + len(bits) == output.entries:
            self._finish(output, self._less_base(output, self._arrays.pop(name)))

    def _finish(self, output: Output, delta: Float32) -> None:
        unit = self.units[output.name]
        if isinstance(unit, Unsaid):
            self.done[output.name] = self.compressor.uncovered(output, unit.why, delta)
            return
        with self._lock:
            self._finished[output.name] = delta
            if any(name not in self._finished for name in unit.names):
                return
            deltas = {name: self._finished.pop(name) for name in unit.names}
        self.done[unit.names[0]] = self.compressor.of_deltas(unit, deltas)

    def _less_base(self, output: Output, values: Float32) -> Float32:
        import numpy as np

        at = 0
        store = self.compressor.store
        with np.errstate(all="ignore"):
            for block in store.blocks(output.base.id) if output.base is not None else ():
                values[at : at + len(block)] -= widen(block, output.base.dtype) if output.base else 0
                at += len(block)
        return values


def compress(
    plan: Plan, around: Surroundings, store: TensorStore, rank: int, dtype: str = "F32", progress: Progress = SILENT
) -> Compressed:
    """Find the adapter of rank ``rank`` that is nearest to a build.

    Args:
        plan: The build, planned with dtype F32.
        around: The base and the active vectors.
        store: Where tensors are read from.
        rank: Maximum rank per module.
        dtype: safetensors name of the dtype that the factors are stored in.

    Raises:
        Refusal: a change is not finite.
    """
    compressor = _Compressor(plan, around, store, rank, dtype)
    outputs = changed(plan)
    thin, units = units_of(plan, outputs, around)
    dense = together(outputs, units)
    done = run_all({unit.names[0]: partial(compressor.of_factors, unit) for unit in thin})
    sink = _Deltas({output.name: output for output in dense}, units, compressor)
    if dense:
        run(replace(plan, outputs=tuple(dense)), store, sink, progress, loops_for(plan), compare=True)
    done |= sink.done
    return _summed([done[o.name] for o in outputs if o.name in done], [*_uncounted(plan, around)], around)


def _uncounted(plan: Plan, around: Surroundings) -> Iterator[UncoveredTensor]:
    """Changes that no number measures: tensors that are not floats, and tensors that are left out."""
    names = {output.name for output in plan.outputs}
    for output in changed(plan):
        if output.dtype not in ARITHMETIC:
            yield UncoveredTensor(output.name, f"it is {output.dtype}", None)
    for name in around.base.tensors:
        if name not in names:
            yield UncoveredTensor(name, "the recipe leaves it out", None)


def _summed(done: Sequence[_Done], uncounted: Sequence[UncoveredTensor], around: Surroundings) -> Compressed:
    left_out = [unit.left_out for unit in done if unit.left_out is not None]
    return Compressed(
        pairs=tuple(joined([unit.pair for unit in done if unit.pair is not None])),
        errors=tuple(error for unit in done for error in unit.errors),
        left_out=(*left_out, *uncounted),
        files=tuple(sorted({file for a in around.active for file in unsaid(a)})),
    )
