"""What a method can be told: each parameter says its type, range, default, and in one line what it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = float | int | str | bool
"""Of a parameter."""


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``; ``beyond`` leaves ``low`` itself out."""

    default: float
    low: float
    high: float
    summary: str
    beyond: bool = False
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What may be given, as a person says it."""
        low = f"above {self.low:g}" if self.beyond else f"from {self.low:g}"
        return f"a number {low}" + (f" to {self.high:g}" if math.isfinite(self.high) else "")

    def checked(self, value: Any) -> float:
        """``value`` if it fits; ValueError says what does."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or (self.beyond and value == self.low):
            raise ValueError(self.wanted)
        if not math.isfinite(value):
            raise ValueError(self.wanted)
        return float(value)


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``."""

    default: int
    low: int
    high: int
    summary: str
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What may be given, as a person says it."""
        return f"a whole number from {self.low} to {self.high}"

    def checked(self, value: Any) -> int:
        """``value`` if it fits; ValueError says what does."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(self.wanted)
        return value


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    default: str
    options: tuple[str, ...]
    summary: str
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What may be given, as a person says it."""
        return "one of " + ", ".join(f'"{option}"' for option in self.options)

    def checked(self, value: Any) -> str:
        """``value`` if it fits; ValueError says what does."""
        if value not in self.options:
            raise ValueError(self.wanted)
        return str(value)


Parameter = Number | Whole | Choice


def settings(declared: Mapping[str, Parameter], *given: Mapping[str, Value]) -> dict[str, Value]:
    """A value for every parameter: its default, or what the last of ``given`` that names it says."""
    found: dict[str, Value] = {name: parameter.default for name, parameter in declared.items()}
    for values in given:
        found.update({name: value for name, value in values.items() if name in declared})
    return found


# Parameters that several methods share, so that they mean the same everywhere.

DENSITY = Number(0.2, 0, 1, "Share of a vector's entries that is kept.", beyond=True, per_vector=True)
KEEP = Number(0.5, 0, 1, "Share of a vector's entries that is kept, at random.", beyond=True, per_vector=True)
SEED = Whole(0, 0, (1 << 63) - 1, "Seed of the random choice; the same seed gives the same bytes anywhere.")
TRIM = Choice(
    "tensor", ("tensor", "model"), "Where the largest are looked for: in each tensor, or in the whole vector."
)
NORMALIZE = Choice(
    "count",
    ("count", "weights", "none"),
    "What a sum of agreeing vectors is divided by: how many they are, the sum of their |alpha|, or nothing.",
)
RESCALE = Choice(
    "density",
    ("density", "l1", "none"),
    "How what is kept makes up for what is dropped: divided by the share kept, or by the share of the L1 norm kept.",
)
EPSILON = Number(
    0.1, 0, 0.5, "Half the width of the range of keep chances: from density - epsilon to density + epsilon.",
    per_vector=True,
)  # fmt: skip
GAMMA = Number(0.01, 0, 1, "Share of a vector's entries, the largest, that is dropped as outliers.", per_vector=True)
