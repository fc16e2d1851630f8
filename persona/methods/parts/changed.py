"""Entries that a vector changes by more than a threshold, and merging by how many vectors do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.parameters import Number
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.methods.parts.work import Float32

    Mask = npt.NDArray[np.bool_]

EPSILON = Number(1e-5, 0, 1, "Changes of at most this are dropped.")


def changes(deltas: Sequence[Float32], epsilon: float) -> list[Mask]:
    """Return where each |τᵢ| is above `epsilon`, both in fp32; NaN counts as a change."""
    import numpy as np

    return [~(np.abs(tau) <= np.float32(epsilon)) for tau in deltas]


def counted(
    deltas: Sequence[Float32], masks: Sequence[Mask], shares: Sequence[Share], gains: Sequence[float]
) -> Float32:
    """Return Σ mᵢ αᵢ τᵢ / c, c = max(1, Σ mᵢ), with those that are alone multiplied by their gain.

    Every product, quotient and sum is rounded, in recipe order. Overwrites the τᵢ.
    """
    import numpy as np

    count = np.zeros(len(masks[0]), np.float32)
    for mask in masks:
        count += mask
    alone = count == 1
    np.maximum(count, 1, out=count)
    total = np.zeros_like(deltas[0])
    for tau, mask, share, gain in zip(deltas, masks, shares, gains, strict=True):
        tau *= np.float32(share.alpha)
        if gain != 1.0:
            tau[alone] *= np.float32(gain)
        tau /= count
        tau[~mask] = 0
        total += tau
    return total
