"""Parse layer lists: indices, ranges and depths.

    3,18,33,36     0-based indices
    14-18          14 to 18, inclusive
    0.7            the layer nearest to that depth
    0.6-0.8        all layers in that range of depths, or the one nearest to its middle if there is none

A number with a decimal point is a depth. Layer i of d blocks has depth (i + 1)/d, the share of blocks that have run, so
1.0 is the last layer. Depths are compared as exact fractions.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import chain

from persona.errors import UsageError

MOST = 100_000
"""Highest index accepted, so that a typo does not allocate a huge range."""
DEFAULT = "0.6-0.8"
AUTO = "auto"
_NUMBER = r"\d+|\d*\.\d+|\d+\."
_PART = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")
_EXAMPLES = "Write indices (3,18,33), ranges (14-18), depths (0.6-0.8), or auto."
_INDICES = "Give block indices from 0, such as 3,5-8."


def check_layers(text: str) -> None:
    """Raise UsageError if `text` is invalid for any model."""
    if text.strip() != AUTO:
        for part in _parts(text):
            _bounds(text, part)


def parse_layers(text: str, blocks: int) -> tuple[int, ...]:
    """Parse a list of layers for a model with `blocks` blocks; ascending, and not checked against `blocks`.

    Raises:
        UsageError: `text` is not a list of layers.
    """
    if text.strip() == AUTO:
        return tuple(range(blocks))
    return tuple(sorted(set(chain.from_iterable(_layers(text, part, blocks) for part in _parts(text)))))


def parse_indices(text: str) -> tuple[int, ...]:
    """Parse a list of indices and ranges, ascending.

    Raises:
        UsageError: `text` is not a list of indices, or has a depth.
    """
    indices: set[int] = set()
    for part in _parts(text):
        low, high = _bounds(text, part, _INDICES)
        if not isinstance(low, int) or not isinstance(high, int):
            raise UsageError(f"layers '{text}': '{part}' is a depth", _INDICES)
        indices.update(range(low, high + 1))
    return tuple(sorted(indices))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _layers(text: str, part: str, blocks: int) -> list[int]:
    low, high = _bounds(text, part)
    if isinstance(low, int) and isinstance(high, int):
        return list(range(low, high + 1))
    inside = [layer for layer in range(blocks) if low <= Fraction(layer + 1, blocks) <= high]
    return inside or [_nearest((low + high) / 2, blocks)]


def _nearest(depth: Fraction | float, blocks: int) -> int:
    """The layer nearest to a depth; the deeper one of two."""
    return min(range(blocks), key=lambda layer: (abs(Fraction(layer + 1, blocks) - Fraction(depth)), -layer))


def _bounds(text: str, part: str, examples: str = _EXAMPLES) -> tuple[int | Fraction, int | Fraction]:
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"layers '{text}': '{part}' is not a layer", examples)
    low, high = (_number(number) for number in (match[1], match[2] or match[1]))
    if isinstance(low, int) != isinstance(high, int):
        raise UsageError(f"layers '{text}': '{part}' mixes an index and a depth", examples)
    if low > high:
        raise UsageError(f"layers '{text}': '{part}' is reversed", f"Write {match[2]}-{match[1]}.")
    if not isinstance(low, int) and not 0 < low <= high <= 1:
        raise UsageError(f"layers '{text}': a depth must be above 0 and at most 1", examples)
    if isinstance(high, int) and high > MOST:
        raise UsageError(f"layers '{text}': no model has a layer {high}", examples)
    return low, high


def _number(text: str) -> int | Fraction:
    return Fraction(text.rstrip(".") or "0") if "." in text else int(text)
