"""Low-rank matrices without multiplying them out: what is merged are their cores (Panariello et al. 2025, arXiv:2509.17786).

    [L₁ L₂ …] = Q [l₁ l₂ …],  [R₁ᵀ R₂ᵀ …] = P [r₁ᵀ r₂ᵀ …]      two thin QR decompositions, over the products of all vectors
    τᵢ = Q tᵢ Pᵀ,  tᵢ = sᵢ lᵢ rᵢ                                no side is longer than the sum of the ranks
    δ(τ₁, …, τₙ) = Q δ(t₁, …, tₙ) Pᵀ

The last line holds for a method that looks at singular vectors, lengths and angles alone: bases with orthonormal
columns change none of them. QR loses nothing if factors share directions or have zeros. Everything is fp64, and rows are
multiplied out in fixed groups, so the result does not depend on how a build divides the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from persona.methods.parts.sizes import Sizes
from persona.methods.parts.spectrum import check_finite

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.methods.parts.work import Float32, Product, Work

    Float64 = npt.NDArray[np.float64]

GROUP = 1 << 16
"""Entries that are multiplied out together, rounded down to whole rows."""


class Core(NamedTuple):
    """The bases Q and Pᵀ, and the core tᵢ of each vector."""

    left: Float64
    right: Float64
    taus: list[Float64]


class Thin(NamedTuple):
    """A δ as left · right, in fp64, and the lengths that belong to it."""

    left: Float64
    right: Float64
    sizes: Sizes


def core_of(products: Sequence[Sequence[Product]]) -> Core:
    """Return bases and cores of matrices, each a sum of products; an empty sum is 0, but one must have a product."""
    flat = [product for several in products for product in several]
    left, lefts = np.linalg.qr(np.hstack([product.left for product in flat]).astype(np.float64))
    right, rights = np.linalg.qr(np.vstack([product.right for product in flat]).T.astype(np.float64))
    taus, at = [], 0
    for several in products:
        tau = np.zeros((left.shape[1], right.shape[1]))
        for product in several:
            stop = at + len(product.right)
            tau += float(product.scale) * (lefts[:, at:stop] @ rights[:, at:stop].T)
            at = stop
        taus.append(tau)
    return Core(left, right.T, taus)


def thin(method: Any, work: Work) -> Thin:
    """Merge by a method over matrices, in core space."""
    core = core_of(work.products)
    largest = max(float(np.linalg.norm(tau)) for tau in core.taus)
    check_finite(work.name, bool(largest <= np.finfo(np.float32).max))
    merged = method.matrix(core.taus, work.shares, work.parameters, work.shape)
    return Thin(core.left @ merged, core.right, Sizes.of(merged, core.taus, work.shares))


def rows(delta: Thin, start: int, count: int) -> Float32:
    """Return ``count`` entries of δ from entry ``start``, rounded to fp32."""
    height, columns = len(delta.left), delta.right.shape[1]
    group = max(1, GROUP // columns)
    first, last = start // columns // group * group, -(-(start + count) // columns)
    out = np.empty((min(-(-last // group) * group, height) - first, columns), np.float32)
    for at in range(first, last, group):
        out[at - first : at - first + group] = delta.left[at : at + group] @ delta.right
    return out.reshape(-1)[start - first * columns :][:count]
