"""Sums over whole tensors in fp64 that do not depend on how a tensor is split into blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.methods.parts.work import Float32

    Float64 = npt.NDArray[np.float64]

TILE = 4096
"""Number of entries that are summed together, counted from the start of the tensor."""


class Dot:
    """A running Σ xy or Σ x: exact products, summed by tile, then tile after tile."""

    def __init__(self) -> None:
        self._whole = 0.0
        self._rest: Float64 = np.empty(0, np.float64)

    @property
    def value(self) -> float:
        """The sum so far."""
        return self._whole + float(self._rest.sum())

    def add(self, x: Float32, y: Float32 | None) -> None:
        """Add a block of any length; without `y`, add up `x`."""
        terms = x.astype(np.float64)
        if y is not None:
            terms *= y
        if len(self._rest):
            terms = np.concatenate([self._rest, terms])
        cut = len(terms) // TILE * TILE
        for tile in terms[:cut].reshape(-1, TILE).sum(axis=1):
            self._whole += float(tile)
        self._rest = terms[cut:].copy()
