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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from persona.building import truncate
from persona.building.adapter import EXACT, Pair, Surroundings, changed, is_stack, stack_module, stacked, unsaid
from persona.building.plan import Output, Plan
from persona.building.run import loops_for, run
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
    """One tensor's share of :class:`Compressed`."""

    pair: Pair | None = None
    error: TensorError | None = None
    left_out: UncoveredTensor | None = None


@dataclass(frozen=True)
class _Compressor:
    plan: Plan
    around: Surroundings
    store: TensorStore
    rank: int
    dtype: str

    def of_factors(self, output: Output, module: Module) -> _Done:
        """Compress a change that is a product of thin factors."""
        import numpy as np

        a, b = stacked(output, module, self.plan.scale, self.store)
        left, right = (matrix.astype(np.float64) for matrix in module.turned(a, b))
        norm = truncate.product_norm(left, right)
        factors = (left.astype(np.float32), right.astype(np.float32))
        if left.shape[1] > self.rank:
            factors = truncate.nearest_product(left, right, self.rank)
        kept = self._rounded(*factors)
        both = np.concatenate([left, -kept[0].astype(np.float64)], 1), np.concatenate([right, kept[1]])
        return self._done(output, module, kept, norm, truncate.product_norm(*both))

    def of_delta(self, output: Output, delta: Float32) -> _Done:
        """Compress a change that was computed entry by entry; new rows are given as they are."""
        norm = truncate.norm(delta)
        if not math.isfinite(norm):
            raise Refusal(
                f"the change to {output.name} contains NaN or infinity, so no adapter approximates it",
                f'Exclude it with except = ["{output.name}"], or lower the alphas.',
            )
        grown = output.base is None or output.shape != output.base.shape
        module = Unsaid("it has rows that the base does not have") if grown else self.around.module(output.name)
        if isinstance(module, Unsaid):
            return _Done(left_out=UncoveredTensor(output.name, module.why, norm) if norm else None)
        matrix = delta.reshape(output.shape[0], -1)
        kept = self._rounded(*truncate.nearest(matrix, self.rank, output.name))
        return self._done(output, module, kept, norm, truncate.residual_norm(matrix, *kept))

    def _rounded(self, left: Float32, right: Float32) -> tuple[Float32, Float32]:
        """The factors as they will be stored."""
        left, right = (widen(narrow(m, self.dtype), self.dtype) for m in (left, right))
        return left, right

    def _done(self, output: Output, module: Module, kept: tuple[Float32, Float32], norm: float, missed: float) -> _Done:
        if not norm:
            return _Done()
        rank = kept[0].shape[1]
        pair = Pair(module, rank, partial(module.turned, *kept))
        return _Done(pair, TensorError(output.name, rank, norm, missed / norm))


@dataclass
class _Deltas:
    """A sink that passes each finished tensor, minus the base's, to ``work`` in the thread that finished it."""

    outputs: dict[str, Output]
    store: TensorStore
    work: Callable[[Output, Float32], _Done]
    done: dict[str, _Done] = field(default_factory=dict)
    _arrays: dict[str, Float32] = field(default_factory=dict)

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Keep a block; the blocks of a tensor arrive in order."""
        import numpy as np

        output = self.outputs[name]
        if entry == 0:
            self._arrays[name] = np.empty(output.entries, np.float32)
        self._arrays[name][entry : entry + len(bits)] = bits.view(np.float32)
        if entry + len(bits) == output.entries:
            self.done[name] = self.work(output, self._less_base(output, self._arrays.pop(name)))

    def _less_base(self, output: Output, values: Float32) -> Float32:
        import numpy as np

        at = 0
        with np.errstate(all="ignore"):
            for block in self.store.blocks(output.base.id) if output.base is not None else ():
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
    thin = {o.name: (o, m) for o in outputs if isinstance(m := _stack(plan, o, around), Module)}
    dense = {o.name: o for o in outputs if o.name not in thin and o.dtype == "F32" and o.entries}
    done = run_all({name: partial(compressor.of_factors, *pair) for name, pair in thin.items()})
    sink = _Deltas(dense, store, compressor.of_delta)
    if dense:
        run(replace(plan, outputs=tuple(dense.values())), store, sink, progress, loops_for(plan))
    done |= sink.done
    return _summed([done[o.name] for o in outputs if o.name in done], [*_uncounted(plan, around)], around)


def _stack(plan: Plan, output: Output, around: Surroundings) -> Module | Unsaid | None:
    return stack_module(output, around) if plan.method in EXACT and is_stack(output) else None


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
    left_out = [tensor.left_out for tensor in done if tensor.left_out is not None]
    return Compressed(
        pairs=tuple(tensor.pair for tensor in done if tensor.pair is not None),
        errors=tuple(tensor.error for tensor in done if tensor.error is not None),
        left_out=(*left_out, *uncounted),
        files=tuple(sorted({file for a in around.active for file in unsaid(a)})),
    )
