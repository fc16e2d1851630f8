"""The nearest product of two thin matrices: ΔW ≈ L · R with L [rows, r] and R [r, columns].

By Eckart and Young, the truncated SVD is the nearest in the Frobenius norm, with error √(Σ_{i>r} σᵢ²). Singular values
are split evenly, L = U√Σ and R = √Σ Vᵀ, so that rounding affects both factors alike.

Small matrices are decomposed whole, in fp64. Large ones use a randomized range finder (Halko, Martinsson and Tropp
2011, arXiv:0909.4061, algorithms 4.4 and 5.1): a Gaussian sketch with ``OVERSAMPLED`` additional columns, ``POWERS``
power iterations with a QR at each step, then the SVD of a thin matrix. The sketch is seeded by the tensor's name. Both
use LAPACK: results are reproducible on one machine, but the last bits may differ between machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Float64 = npt.NDArray[np.float64]

SMALL = 1 << 18
"""Maximum number of entries of a matrix that is decomposed whole."""
OVERSAMPLED = 16
POWERS = 4
ROWS = 1 << 20
"""Entries of a residual per step."""


def nearest(matrix: Float32, rank: int, name: str) -> tuple[Float32, Float32]:
    """Find L and R of rank ``rank`` whose product is nearest to ``matrix``.

    Args:
        matrix: [rows, columns].
        rank: Maximum rank; less if the matrix has fewer rows or columns.
        name: The tensor's name, which seeds the sketch.

    Returns:
        L [rows, rank] and R [rank, columns].
    """
    wide = min(matrix.shape) > 2 * (rank + OVERSAMPLED)
    u, s, vt = _sketched(matrix, rank, name) if matrix.size > SMALL and wide else _whole(matrix)
    return _shared(u, s, vt, rank)


def nearest_product(left: Float64, right: Float64, rank: int) -> tuple[Float32, Float32]:
    """Do the same for ``left`` · ``right`` without multiplying it out: QR of both, and SVD of the small core."""
    import numpy as np

    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right.T)
    u, s, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    return _shared(q_left @ u, s, vt @ q_right.T, rank)


def product_norm(left: Float64, right: Float64) -> float:
    """‖left · right‖_F without multiplying out."""
    import numpy as np

    return float(np.linalg.norm(np.linalg.qr(left)[1] @ np.linalg.qr(right.T)[1].T))


def norm(matrix: Float32) -> float:
    """‖matrix‖_F, with its squares summed in fp64."""
    import numpy as np

    flat = matrix.reshape(-1)
    parts = (flat[at : at + ROWS].astype(np.float64) for at in range(0, len(flat), ROWS))
    return float(np.sqrt(sum(float(np.dot(part, part)) for part in parts)))


def residual_norm(matrix: Float32, left: Float32, right: Float32) -> float:
    """‖matrix − left · right‖_F, computed a few rows at a time."""
    import numpy as np

    step = max(1, ROWS // max(matrix.shape[1], 1))
    rows = (slice(at, at + step) for at in range(0, len(matrix), step))
    return float(np.sqrt(sum(norm(matrix[part] - left[part] @ right) ** 2 for part in rows)))


def _whole(matrix: Float32) -> tuple[Float64, Float64, Float64]:
    import numpy as np

    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return u, s, vt


def _sketched(matrix: Float32, rank: int, name: str) -> tuple[Float64, Float64, Float64]:
    import numpy as np

    largest = np.float32(max(float(np.abs(matrix).max()), float(np.finfo(np.float32).tiny)))
    scaled = matrix / largest  # keeps squares in range
    noise = np.random.default_rng(list(name.encode()))
    sketch = scaled @ noise.standard_normal((matrix.shape[1], rank + OVERSAMPLED), np.float32)
    for _ in range(POWERS):
        sketch = scaled @ np.linalg.qr(scaled.T @ np.linalg.qr(sketch)[0])[0]
    basis = np.linalg.qr(sketch)[0]
    u, s, vt = np.linalg.svd((basis.T @ scaled).astype(np.float64), full_matrices=False)
    return basis.astype(np.float64) @ u, s * float(largest), vt


def _shared(u: Float64, s: Float64, vt: Float64, rank: int) -> tuple[Float32, Float32]:
    import numpy as np

    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * vt[:rank]).astype(np.float32)
