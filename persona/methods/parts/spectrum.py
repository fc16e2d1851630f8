"""Singular values and vectors of a task vector's matrix, in fp64.

A large matrix is decomposed through the smaller of AᵀA and AAᵀ: a product and a symmetric eigenproblem, in a fifth of
the time of a full SVD. This squares the condition number, which fp64 can afford: nothing below the rounding of fp32 is
kept, and that is 2⁻⁴⁶ of the largest singular value when squared.

BLAS and LAPACK choose their order of summation. The bytes do not depend on the number of threads, because each matrix
runs on one thread, but another build of the library may differ in the last digits of fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.errors import Refusal
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.methods.parts.work import Float32

    Float64 = npt.NDArray[np.float64]
    Matrix = Float32 | Float64
    """[rows, columns]: a τ in fp32, or its core in fp64."""

ROUNDING = 2.0**-23
"""Relative distance between neighbouring fp32 numbers."""

FEW = 64
"""Up to this many rows or columns, LAPACK's own SVD is as fast."""


def added(deltas: Sequence[Matrix], shares: Sequence[Share]) -> Float64:
    """Return Σ αᵢ τᵢ."""
    total = np.zeros(deltas[0].shape, np.float64)
    for tau, share in zip(deltas, shares, strict=True):
        total += tau * np.float64(share.alpha)
    return total


def svd(matrix: Float64, largest: int, most: int | None = None) -> tuple[Float64, Float64, Float64]:
    """Return U, σ and Vᵀ of the directions above rounding, strongest first, at most `most`.

    Args:
        largest: The larger side of the tensor, which is more than that of `matrix` in core space.
    """
    u, sigma, vt = _decomposed(matrix)
    kept = above_rounding(sigma, largest)
    kept = kept if most is None else min(kept, most)
    return u[:, :kept], sigma[:kept], vt[:kept]


def above_rounding(sigma: Float64, largest: int) -> int:
    """Count singular values, in descending order, that are above the rounding of fp32.

    Args:
        largest: The larger side of the tensor.
    """
    return int((sigma > sigma[:1] * largest * ROUNDING).sum())


def _decomposed(matrix: Float64) -> tuple[Float64, Float64, Float64]:
    if min(matrix.shape) <= FEW:
        u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
        return u, sigma, vt
    if matrix.shape[0] < matrix.shape[1]:
        v, sigma, ut = _decomposed(matrix.T)
        return ut.T, sigma, v.T
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    sigma, v = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    with np.errstate(all="ignore"):
        left: Any = (matrix @ v) / sigma
    return left, sigma, v.T


def orthonormal(columns: Float64, height: int) -> Float64:
    """Return P Qᵀ of the SVD P diag(s) Qᵀ: the nearest matrix of the same rank with orthonormal columns.

    Args:
        height: Rows of the tensor, which are more than those of `columns` in core space.
    """
    p, _, qt = svd(columns, max(height, columns.shape[1]))
    nearest: Float64 = p @ qt
    return nearest


def check_finite(name: str, finite: bool) -> None:
    """Raise Refusal for a matrix with NaN or infinity, which has no singular values."""
    if not finite:
        raise Refusal(
            f"{name} contains NaN or infinity, so it has no singular values",
            f'Exclude it from the vectors that cause this with except = ["{name}"], or choose another method.',
        )
