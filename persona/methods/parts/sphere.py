"""Geometry of points known only by their lengths and angles."""

from __future__ import annotations

import math

COLINEAR = 1e-8
"""If |sin θ| is below this, an arc counts as a straight line."""


def cosine(dot: float, x: float, y: float) -> float:
    """Return the cosine from ⟨x, y⟩, ‖x‖² and ‖y‖²; 0 if a length is 0."""
    lengths = math.sqrt(max(0.0, x)) * math.sqrt(max(0.0, y))  # rounding can make a length of 0 negative
    return min(1.0, max(-1.0, dot / lengths)) if lengths > 0 else 0.0


def arc(t: float, cos: float) -> tuple[float, float]:
    """Return the weights of two unit vectors, at `t` of the great circle from the first to the second.

    sin((1 - t)θ)/sin θ and sin(tθ)/sin θ; 1 - t and t where θ is 0 or π.
    """
    theta = math.acos(cos)
    if abs(math.sin(theta)) < COLINEAR:
        return 1 - t, t
    return math.sin((1 - t) * theta) / math.sin(theta), math.sin(t * theta) / math.sin(theta)
