"""Types by which a method declares itself. They do not need numpy, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Family:
    """A sparsifier (nothing, trim, outliers, random, ranked) and a combiner (sum, elect), by name."""

    sparsify: str
    combine: str


Gram = list[list[float]]
"""G[i][j] = ⟨xᵢ, xⱼ⟩ with x₀ = W_base and xᵢ = τᵢ."""


class Coefficients(NamedTuple):
    """δ = ``base`` · W_base + Σ ``deltas``ᵢ τᵢ."""

    base: float
    deltas: list[float]
