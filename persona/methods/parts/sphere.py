"""Geometry of points of which only lengths and angles are known."""

from __future__ import annotations

import math

COLINEAR = 1e-8
"""|sin θ| below which an arc is a straight line."""


def cosine(dot: float, one: float, other: float) -> float:
    """The cosine from ⟨x, y⟩, ‖x‖² and ‖y‖²; 0 where one is zero."""
    lengths = math.sqrt(max(0.0, one)) * math.sqrt(max(0.0, other))  # a length of 0 may be rounded to less
    return min(1.0, max(-1.0, dot / lengths)) if lengths > 0 else 0.0


def arc(t: float, cos: float) -> tuple[float, float]:
    """Weights of both ends at t of the way between two unit vectors along the great circle.

    sin((1 - t)θ)/sin θ and sin(tθ)/sin θ; 1 - t and t where θ is 0 or π.
    """
    theta = math.acos(cos)
    if abs(math.sin(theta)) < COLINEAR:
        return 1 - t, t
    return math.sin((1 - t) * theta) / math.sin(theta), math.sin(t * theta) / math.sin(theta)
