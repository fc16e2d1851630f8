"""Methods that weigh whole tensors by lengths and angles, in two passes: a Gram matrix, then a weighted sum.

G[i][j] = ⟨xᵢ, xⱼ⟩ in fp64, x₀ = W_base, xᵢ = τᵢ
δ = b · W_base + Σ cᵢ τᵢ,   b and cᵢ from G alone, rounded to fp32
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from persona.methods.parts.kinds import Coefficients, Gram
from persona.methods.parts.sums import Dot
from persona.methods.parts.work import Piece, Work

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32


def gram(work: Work) -> Gram:
    """Return G, from one pass over the tensor."""
    size = len(work.shares) + 1
    sums = {(i, j): Dot() for i in range(size) for j in range(i + 1)}
    for piece in work.pieces():
        rows = [piece.base, *piece.deltas]
        for (i, j), total in sums.items():
            total.add(rows[i], rows[j])
    return [[sums[max(i, j), min(i, j)].value for j in range(size)] for i in range(size)]


def weighted(piece: Piece, coefficients: Coefficients) -> Float32:
    """Return δ of one block: τᵢ in recipe order, then W_base; every product and sum is rounded."""
    total: Float32 | None = None
    for tau, coefficient in zip(piece.deltas, coefficients.deltas, strict=True):
        tau *= np.float32(coefficient)
        total = tau if total is None else total.__iadd__(tau)
    assert total is not None, "methods run only where a vector changes the tensor"
    if coefficients.base:
        total += piece.base * np.float32(coefficients.base)
    return total
