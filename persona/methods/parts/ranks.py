"""Keep probabilities by rank of magnitude within a row (DELLA's MagPrune)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32


def chances(rows: Float32, density: float, epsilon: float) -> Any:
    """Return p = density - ε + 2ε · rank/(n - 1), in fp64.

    Rank 0 is the smallest magnitude of a row; equal ones rank by position. A row of one entry has p = density.

    Args:
        rows: fp32 [rows, n].
    """
    count = rows.shape[1]
    if count == 1:
        return np.full(rows.shape, density)
    return density - epsilon + ranked(rows) * (2 * epsilon / (count - 1))


def ranked(rows: Float32) -> Any:
    """Return the rank of every entry in its row, from one sort of magnitude and position packed into an integer."""
    count = rows.shape[1]
    keys = (rows.view(np.uint32) & np.uint32(0x7FFFFFFF)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(count, dtype=np.uint64)
    keys.sort(axis=1)
    places = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    ranks = np.empty(rows.shape, np.int64)
    np.put_along_axis(ranks, places, np.broadcast_to(np.arange(count), rows.shape), axis=1)
    return ranks
