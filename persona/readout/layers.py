"""Which layers: indices, ranges of them, and depths.

    3,18,33,36     layers by their 0-based index
    14-18          from 14 to 18, both
    0.7            the layer nearest to that depth
    0.6-0.8        every layer at those depths; the one nearest to their middle if there is none

A number with a point in it is a depth. Layer i of d blocks has the depth (i + 1)/d: the share of the blocks that its
activation has gone through, so that 1.0 is the last layer. Depths are compared as fractions, without rounding.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import chain

from persona.errors import UsageError

DEFAULT = "0.6-0.8"
AUTO = "auto"
_NUMBER = r"\d+|\d*\.\d+|\d+\."
_PART = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")
_EXAMPLES = "Write indices (3,18,33), ranges (14-18), depths (0.6-0.8), or auto."
_INDICES = "Give indices of blocks, counted from 0, such as 3,5-8."


def check_layers(text: str) -> None:
    """Raise if ``text`` says nothing, whatever the model."""
    if text.strip() != AUTO:
        for part in _parts(text):
            _bounds(text, part)


def parse_layers(text: str, blocks: int) -> tuple[int, ...]:
    """The layers that ``text`` means in a model of so many blocks, ascending; they may be more than it has."""
    if text.strip() == AUTO:
        return tuple(range(blocks))
    return tuple(sorted(set(chain.from_iterable(_layers(text, part, blocks) for part in _parts(text)))))


def parse_indices(text: str) -> tuple[int, ...]:
    """The layers that ``text`` names by index, ascending, for which no model has to be known."""
    found: set[int] = set()
    for part in _parts(text):
        low, high = _bounds(text, part, _INDICES)
        if not isinstance(low, int) or not isinstance(high, int):
            raise UsageError(f"layers '{text}': '{part}' is a depth", _INDICES)
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _layers(text: str, part: str, blocks: int) -> list[int]:
    low, high = _bounds(text, part)
    if isinstance(low, int) and isinstance(high, int):
        return list(range(low, high + 1))
    inside = [layer for layer in range(blocks) if low <= Fraction(layer + 1, blocks) <= high]
    return inside or [_nearest((low + high) / 2, blocks)]


def _nearest(depth: Fraction | float, blocks: int) -> int:
    """The layer nearest to a depth; of two the deeper."""
    return min(range(blocks), key=lambda layer: (abs(Fraction(layer + 1, blocks) - Fraction(depth)), -layer))


def _bounds(text: str, part: str, examples: str = _EXAMPLES) -> tuple[int | Fraction, int | Fraction]:
    found = _PART.fullmatch(part)
    if found is None:
        raise UsageError(f"layers '{text}': '{part}' is no layer", examples)
    low, high = (_number(said) for said in (found[1], found[2] or found[1]))
    if isinstance(low, int) != isinstance(high, int):
        raise UsageError(
            f"layers '{text}': '{part}' begins with an index and ends with a depth, or the other way", examples
        )
    if low > high:
        raise UsageError(f"layers '{text}': '{part}' runs backwards", f"Write {found[2]}-{found[1]}.")
    if not isinstance(low, int) and not 0 < low <= high <= 1:
        raise UsageError(f"layers '{text}': depths are above 0 and at most 1", examples)
    if isinstance(high, int) and high > MOST:
        raise UsageError(f"layers '{text}': no model has a layer {high}", examples)
    return low, high


MOST = 100_000


def _number(text: str) -> int | Fraction:
    return Fraction(text.rstrip(".") or "0") if "." in text else int(text)
