"""Sums over whole tensors in fp64, whose value does not depend on how the tensor is cut into blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32

TILE = 4096
"""Entries that are added up together; blocks begin at its multiples, so that tiles are the same in any cut."""


class Dot:
    """A running Σ xy, or Σ x: exact products, tiles added up by themselves and then in order."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, x: Float32, y: Float32 | None) -> None:
        """The next block, which begins at a multiple of a tile."""
        terms = x.astype(np.float64)
        if y is not None:
            terms *= y
        cut = len(terms) // TILE * TILE
        for tile in terms[:cut].reshape(-1, TILE).sum(axis=1):
            self.value += float(tile)
        if cut < len(terms):
            self.value += float(terms[cut:].sum())


def dot() -> Dot:
    """A sum that is 0 yet."""
    return Dot()
