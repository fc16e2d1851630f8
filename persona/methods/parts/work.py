"""One tensor to be merged, as a method sees it: blocks of fp32, from front to back, as often as it asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from persona.methods.parts.parameters import Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]

WHOLE = 0
"""Instead of a number of entries: the tensor in one block."""


class Piece(NamedTuple):
    """One block: where it begins, W_base, every τᵢ and, where entries are weighed, every Fᵢ; flat arrays of one length that may be used up."""

    start: int
    base: Float32
    deltas: list[Float32]
    weights: Sequence[Float32] = ()


@dataclass(frozen=True)
class Work:
    """A tensor by name and shape, the vectors at it, and the method's parameters with their values.

    ``tau(i)`` gives the blocks of τᵢ, ``pieces()`` the blocks of everything; each call begins at the front.
    """

    name: str
    shape: tuple[int, ...]
    shares: tuple[Share, ...]
    parameters: Mapping[str, Value]
    tau: Callable[[int], Iterator[Float32]]
    pieces: Callable[[], Iterator[Piece]]

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Entries in a row: of the last axis, or all of a vector's."""
        return self.shape[-1] if len(self.shape) > 1 else max(1, self.entries)
