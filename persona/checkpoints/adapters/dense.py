"""Dense tensors for changes that scale · L · R cannot express, computed in fp32 and rounded once.

    DoRA           W' = m · (W + ΔW) / ‖W + ΔW‖        Liu et al. 2024 (arXiv 2402.09353), peft/tuners/lora/variants.py
                   one m and one norm per output: per row of a Linear and of a ConvNd (over all its other axes), per
                   column of a Conv1D ([in, out]), per column of an Embedding (over the vocabulary)
    lora_bias      b' = b + s · b_B
    tokens         rows of W replaced by ``trainable_tokens_delta``, which contains rows, not differences
    copies         W₀ + ΔW, if the adapter has its own W₀ (a resized embedding)

Norms are summed in fp64, entry by entry, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.checkpoints.adapters.model import BaseView, LowRank, MadeDense, matrix, values
from persona.checkpoints.dtypes import as_bits, narrow, widen
from persona.checkpoints.tensorfile import TensorFile, TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32

ROWS = 1 << 17
"""Entries of a product that are computed together."""


@dataclass(frozen=True)
class BaseTensor:
    """The W that an adapter adds to: the base's tensor, or the adapter's copy of it.

    Attributes:
        dtype: The base's dtype, which results also have.
        own: Whether it is the adapter's copy.
        stored: The dtype of ``bits``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    own: bool
    stored: str
    bits: Callable[[], Bits]

    def read(self) -> Float32:
        """W in fp32, in a new array."""
        return widen(self.bits(), self.stored)


def of_base(base: BaseView, name: str, stored: str, dtype: str, shape: tuple[int, ...]) -> BaseTensor:
    """The base's tensor ``stored``, called ``name`` here (another name if it is tied)."""
    return BaseTensor(name, dtype, shape, False, dtype, lambda: base.bits(stored).reshape(shape))


def of_copy(base: BaseTensor, file: TensorFile, info: TensorInfo) -> BaseTensor:
    """The adapter's copy of a base tensor."""
    bits = as_bits(file.data(info), info.dtype).reshape(info.shape)
    return BaseTensor(base.name, base.dtype, info.shape, True, info.dtype, lambda: bits)


def of_rows(base: BaseTensor, file: TensorFile, info: TensorInfo) -> BaseTensor:
    """The base's tensor with its first rows replaced by the adapter's copy, which has no others."""

    def bits() -> Bits:
        w = base.bits().copy()
        w[: info.shape[0]] = narrow(values(file, info), base.dtype)
        return w

    return BaseTensor(base.name, base.dtype, base.shape, True, base.dtype, bits)


def made(origin: BaseTensor, how: str, make: Callable[[], Float32]) -> MadeDense:
    """A tensor with the origin's name, dtype and shape that ``make`` computes in fp32."""
    return MadeDense(origin.name, origin.dtype, origin.shape, how, lambda: narrow(make(), origin.dtype))


def product(left: Float32, right: Float32, scale: float) -> Float32:
    """scale · L · R in fp32, in the order of a low-rank build: k ascending, each product and sum rounded, scale last."""
    import numpy as np

    out = np.empty((len(left), right.shape[1]), np.float32)
    step = max(1, ROWS // max(right.shape[1], 1))
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(left), step):
            rows, block = left[at : at + step], out[at : at + step]
            np.multiply(rows[:, :1], right[0], out=block)
            for k in range(1, len(right)):
                block += rows[:, k : k + 1] * right[k]
            block *= np.float32(scale)
    return out


def summed(file: TensorFile, origin: BaseTensor, delta: LowRank) -> Float32:
    """W + ΔW in fp32, in the tensor's shape; ΔW may lack the last rows."""
    w = origin.read()
    change = product(matrix(file, delta.left), matrix(file, delta.right), delta.scale)
    w[: len(change)] += change.reshape(-1, *origin.shape[1:])
    return w


def dora(file: TensorFile, origin: BaseTensor, delta: LowRank, magnitude: TensorInfo, axis: int) -> Float32:
    """m · (W + ΔW) / ‖W + ΔW‖, with one m and one norm per index of ``axis``."""
    import numpy as np

    w = summed(file, origin, delta)
    with np.errstate(all="ignore"):
        factor = values(file, magnitude).reshape(-1) / norms(w, axis)
        w *= factor.reshape([-1 if a == axis else 1 for a in range(w.ndim)])
    return w


def norms(w: Float32, axis: int) -> Float32:
    """‖w‖ over all axes except ``axis``: squares summed in order in fp64, rounded once."""
    import numpy as np

    lines = np.moveaxis(w, axis, -1).reshape(-1, w.shape[axis])
    total = np.zeros(w.shape[axis], np.float64)
    for line in lines:
        wide = line.astype(np.float64)
        wide *= wide
        total += wide
    return np.sqrt(total).astype(np.float32)


def biased(file: TensorFile, origin: BaseTensor, bias: TensorInfo, scale: float) -> Float32:
    """b + s · b_B."""
    import numpy as np

    b = origin.read()
    b += values(file, bias) * np.float32(scale)
    return b


def tokens(file: TensorFile, origin: BaseTensor, rows: TensorInfo, indices: Sequence[int]) -> Bits:
    """W with ``rows`` at ``indices``; the other rows stay the same bit for bit."""
    w = origin.bits().copy() if origin.stored == origin.dtype else narrow(origin.read(), origin.dtype)
    w[list(indices)] = narrow(values(file, rows), origin.dtype)
    return w
