"""What a method knows about one vector at one tensor, besides its τ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from persona.methods.parts.parameters import Value

ALL = 0
"""Bits of the smallest magnitude: an edge there keeps everything except zeros."""

NO_EDGE = 0xFFFFFFFF
"""Bits larger than any magnitude: nothing is above an edge there."""


class Edge(NamedTuple):
    """A threshold of magnitude.

    An entry of magnitude m (the bits of |τ| in fp32, as an integer) is above it if m > ``bits``, or if m = ``bits``
    and its draw (see ``order.draws``) is below ``share``, a 64-bit number.
    """

    bits: int
    share: int = 0


class Cut(NamedTuple):
    """Keeps the entries above ``low`` and, if it is given, not above ``high``."""

    low: Edge
    high: Edge | None = None


class Size(NamedTuple):
    """Mean and L2 norm of a vector's F, over all of its tensors."""

    mean: float = 1.0
    norm: float = 1.0


ONE = Size()
"""The size of a vector whose entries are not weighed."""


@dataclass(frozen=True)
class Share:
    """One vector at one tensor.

    Attributes:
        alpha: Its strength at this tensor.
        key: 64-bit key of its random draws at this tensor.
        cut: The cut, if it was found across the whole vector.
        size: Size of its F, for methods that weigh entries.
    """

    alpha: float
    key: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    cut: Cut | None = None
    size: Size = ONE

    def number(self, name: str) -> float:
        """Return a numeric parameter."""
        return float(self.parameters[name])
