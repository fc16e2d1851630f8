"""Rows of a low-rank delta, ΔW = s · L · R, with every rounding defined.

    ΔW[i, j] = fp32(s) · (…((L[i,0]·R[0,j] + L[i,1]·R[1,j]) + L[i,2]·R[2,j]) + …)

k ascends; every product, every sum and the final product with s are rounded to fp32, to nearest, ties to even.
There is no fused multiply-add and no BLAS, so the bits depend on the factors alone: not on the machine, the number
of threads, or how a caller splits the rows. s comes last because PEFT does it so
(``LoraLayer.get_delta_weight``: ``(B @ A) * scaling``): with one term per sum the two agree bit for bit, and
otherwise they differ only by the order in which a BLAS adds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona import kernels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]


def delta_rows(left: Float32, right: Float32, scale: float, start: int, stop: int) -> Float32:
    """Return rows `start` to `stop` of s · L · R in a new array.

    Args:
        left: L, fp32 [rows, r].
        right: R, fp32 [r, columns].
        scale: s.
    """
    import numpy as np

    rows = np.empty((max(stop - start, 0), right.shape[1]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        kernels.current().low_rank_rows(left[start : start + len(rows)], right, scale, rows)
    return rows
