"""Rows of a low-rank delta, ΔW = s · L · R, with every rounding defined.

    ΔW[i, j] = fp32(s) · (…((L[i,0]·R[0,j] + L[i,1]·R[1,j]) + L[i,2]·R[2,j]) + …)

k ascends; every product, every sum and the final product with s are rounded to fp32, to nearest, ties to even.
There is no fused multiply-add and no BLAS, so the bits depend on the factors alone: not on the machine, the number
of threads, nor where a caller cuts the rows. s comes last because that is where PEFT puts it
(``LoraLayer.get_delta_weight``: ``(B @ A) * scaling``): with one term per sum the two agree bit for bit, and
otherwise they differ only by the order in which a BLAS adds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]

BLOCK: Final = 1 << 17
"""Entries that are summed together: a block and its products stay in a core's cache."""


def delta_rows(left: Float32, right: Float32, scale: float, start: int, stop: int) -> Float32:
    """Rows ``start`` to ``stop`` of s · L · R in a new array; L is [rows, r], R is [r, columns], both fp32."""
    import numpy as np

    columns = right.shape[1]
    rows = np.empty((max(stop - start, 0), columns), np.float32)
    height = max(1, min(len(rows), BLOCK // max(columns, 1)))
    products = np.empty((height, columns), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(rows), height):
            block = rows[at : at + height]
            add_up(left[start + at : start + at + len(block)], right, scale, block, products[: len(block)])
    return rows


def add_up(left: Float32, right: Float32, scale: float, out: Float32, products: Float32) -> None:
    """s · L · R into ``out``, with ``products`` as scratch space of the same shape."""
    import numpy as np

    if not len(right):
        out.fill(0)
        return
    np.multiply(left[:, :1], right[0], out=out)
    for k in range(1, len(right)):
        np.multiply(left[:, k : k + 1], right[k], out=products)
        np.add(out, products, out=out)
    np.multiply(out, np.float32(scale), out=out)
