"""A tensor to merge, as a method sees it: blocks of fp32 in order, as often as needed."""

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
"""Instead of a number of entries per block: the whole tensor in one block."""


class Piece(NamedTuple):
    """One block: its first position, W_base, every τᵢ, and every Fᵢ if entries are weighed.

    The arrays are flat and of one length, and may be overwritten.
    """

    start: int
    base: Float32
    deltas: list[Float32]
    weights: Sequence[Float32] = ()


class Product(NamedTuple):
    """scale · left · right, as stored: fp32 [rows, r] and [r, columns]."""

    left: Float32
    right: Float32
    scale: float


@dataclass(frozen=True)
class Work:
    """A tensor to merge, with the vectors that change it.

    Attributes:
        parameters: A value for every parameter of the method.
        tau: ``tau(i)`` yields the blocks of τᵢ, from the start.
        pieces: Yields the blocks of everything, from the start.
        products: Each τᵢ as a sum of products of thin factors, instead of blocks of τᵢ in the pieces (see ``core.py``).
    """

    name: str
    shape: tuple[int, ...]
    shares: tuple[Share, ...]
    parameters: Mapping[str, Value]
    tau: Callable[[int], Iterator[Float32]]
    pieces: Callable[[], Iterator[Piece]]
    products: Sequence[Sequence[Product]] = ()

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """Length of a row: the last axis, or all entries of a one-dimensional tensor."""
        return self.shape[-1] if len(self.shape) > 1 else max(1, self.entries)
