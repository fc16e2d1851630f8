"""Singular values and vectors of a task vector's matrix, in fp64.

A large matrix is decomposed through the smaller of AᵀA and AAᵀ: a product and a symmetric eigenproblem of the smaller
side, a fifth of the time of a full SVD. It squares the condition number, which fp64 affords: singular values down
to the rounding of fp32, below which nothing is kept, are 2⁻⁴⁶ of the largest when squared.

BLAS and LAPACK sum in an order of their own, so bytes are the same for any number of threads here (each matrix is
one thread's), but another build of the library may differ in the last places of fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts.share import Share

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.methods.parts.work import Float32

    Float64 = npt.NDArray[np.float64]

ROUNDING = 2.0**-23
"""Of fp32, from one number to the next."""

FEW = 64
"""Rows or columns up to which LAPACK's own SVD is as fast."""


def added(deltas: Sequence[Float32], shares: Sequence[Share]) -> Float64:
    """Σ αᵢ τᵢ."""
    total = np.zeros(deltas[0].shape, np.float64)
    for tau, share in zip(deltas, shares, strict=True):
        total += tau * np.float64(share.alpha)
    return total


def svd(matrix: Float64, most: int | None = None) -> tuple[Float64, Float64, Float64]:
    """U, σ and Vᵀ of the directions above rounding, the strongest first, ``most`` of them at most."""
    u, sigma, vt = _decomposed(matrix)
    kept = above_rounding(sigma, max(matrix.shape))
    kept = kept if most is None else min(kept, most)
    return u[:, :kept], sigma[:kept], vt[:kept]


def above_rounding(sigma: Float64, largest: int) -> int:
    """How many of the singular values, in descending order, are more than the rounding of fp32."""
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


def orthonormal(columns: Float64) -> Float64:
    """P Qᵀ of the SVD P diag(s) Qᵀ: the nearest matrix whose columns are orthonormal, as many as it has rank."""
    p, s, qt = np.linalg.svd(columns, full_matrices=False)
    kept = above_rounding(s, max(columns.shape))
    found: Float64 = p[:, :kept] @ qt[:kept]
    return found
