"""What a method knows of one vector at one tensor, beside its τ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from persona.methods.parts.parameters import Value

ALL = 0
"""Bits of the magnitude that every other one reaches: an edge there keeps everything but zeros."""

NO_EDGE = 0xFFFFFFFF
"""Bits of no magnitude: above an edge there is nothing."""


class Edge(NamedTuple):
    """A place in the order of magnitudes that splits a tensor in two.

    An entry of magnitude m (the bits of |τ| in fp32, as an integer) is above it if m > ``bits``, or if m = ``bits``
    and its draw (see ``order.draws``) is below ``share``, a number of 64 bits.
    """

    bits: int
    share: int = 0


class Cut(NamedTuple):
    """Entries that are kept: above ``low`` and, if there is one, not above ``high``."""

    low: Edge
    high: Edge | None = None


class Size(NamedTuple):
    """Of all entries by which a vector is weighed, whatever tensor they are in: their mean, and √Σ F²."""

    mean: float = 1.0
    norm: float = 1.0


ONE = Size()
"""Of a vector whose entries are not weighed."""


@dataclass(frozen=True)
class Share:
    """One vector: its strength here, its parameters, and a key of 64 bits that is its own at this tensor.

    ``cut`` is given where it comes from more than this tensor, ``size`` where entries are weighed.
    """

    alpha: float
    key: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    cut: Cut | None = None
    size: Size = ONE

    def number(self, name: str) -> float:
        """A parameter that is a number."""
        return float(self.parameters[name])
