"""How strong a vector is at each tensor.

    alpha = 0.8                                     the same everywhere
    alpha = [0.2, 1.0]                              along the depth: from the first block to the last, straight between
    alpha = {"*.mlp.*" = 0.5, "*" = 1.0}            by pattern, the first that matches

Depth: block i of n lies at i/(n - 1), and the numbers of the list at 0, 1/(m - 1), …, 1. What stands before the
blocks (embeddings) lies at 0, what stands behind them (the last norm, the head) at 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Patterns = tuple[tuple[str, float], ...]
Alpha = float | tuple[float, ...] | Patterns

_BLOCK = re.compile(r"^(.*?\.|)(\d+)\.")
_FRONT = re.compile(r"embed|wte|wpe|\btok_", re.IGNORECASE)


@dataclass(frozen=True)
class Depths:
    """How many blocks each stack of a model has, by what stands before their numbers in tensors' names."""

    blocks: dict[str, int]

    @classmethod
    def of(cls, names: Iterable[str]) -> Depths:
        """From the names of all tensors of a base."""
        blocks: dict[str, int] = {}
        for name in names:
            if match := _BLOCK.match(name):
                blocks[match[1]] = max(blocks.get(match[1], 0), int(match[2]) + 1)
        return cls(blocks)

    def at(self, name: str) -> float:
        """Where a tensor lies between 0 and 1."""
        match = _BLOCK.match(name)
        if match is None:
            return 0.0 if _FRONT.search(name) else 1.0
        last = self.blocks.get(match[1], 1) - 1
        return min(1.0, int(match[2]) / last) if last > 0 else 0.0


def layer_of(name: str) -> tuple[int, str]:
    """What a tensor is part of: 0 and a module before the blocks, 1 and a block, 2 and a module behind them."""
    if match := _BLOCK.match(name):
        return 1, f"{match[1]}{match[2]}"
    return 0 if _FRONT.search(name) else 2, name.rpartition(".")[0] or name


def alpha_at(alpha: Alpha, name: str, depths: Depths) -> float | None:
    """The strength at one tensor; None if it goes by patterns and none matches."""
    if not isinstance(alpha, tuple):
        return alpha
    if is_patterns(alpha):
        return next((value for pattern, value in alpha if fnmatchcase(name, str(pattern))), None)  # type: ignore[misc,return-value,unused-ignore]
    return _between(numbers(alpha), depths.at(name))


def _between(values: list[float], depth: float) -> float:
    place = depth * (len(values) - 1)
    left = min(int(place), len(values) - 2) if len(values) > 1 else 0
    if place == left or len(values) == 1:
        return values[left]
    return values[left] + (values[left + 1] - values[left]) * (place - left)


def is_patterns(alpha: Alpha) -> bool:
    """Whether it goes by patterns."""
    return isinstance(alpha, tuple) and isinstance(alpha[0], tuple)


def numbers(alpha: Alpha) -> list[float]:
    """Every number in it."""
    if not isinstance(alpha, tuple):
        return [alpha]
    return [one[1] if isinstance(one, tuple) else one for one in alpha]


def patterns(alpha: Alpha) -> list[str]:
    """Every pattern in it."""
    return [one[0] for one in alpha if isinstance(one, tuple)] if isinstance(alpha, tuple) else []


def acts(alpha: Alpha) -> bool:
    """Whether it is not zero everywhere."""
    return any(numbers(alpha))


def adds(alpha: Alpha) -> bool:
    """Whether it is positive somewhere."""
    return any(value > 0 for value in numbers(alpha))


def times(alpha: Alpha, factor: float) -> Alpha:
    """Every number of it, times ``factor``."""
    if not isinstance(alpha, tuple):
        return alpha * factor
    if is_patterns(alpha):
        return tuple((pattern, value * factor) for pattern, value in alpha)  # type: ignore[misc,unused-ignore]
    return tuple(value * factor for value in numbers(alpha))


def rounded(alpha: Alpha, places: int) -> Alpha:
    """Every number of it, to so many places."""
    if not isinstance(alpha, tuple):
        return round(alpha, places)
    if is_patterns(alpha):
        return tuple((pattern, round(value, places)) for pattern, value in alpha)  # type: ignore[misc,unused-ignore]
    return tuple(round(value, places) for value in numbers(alpha))


def alpha_text(alpha: Alpha) -> str:
    """As people read it: 0.8, 0.2 … 1, or *.mlp.* 0.5, * 1."""
    if not isinstance(alpha, tuple):
        return f"{alpha:g}"
    if is_patterns(alpha):
        return ", ".join(f"{pattern} {value:g}" for pattern, value in alpha)  # type: ignore[misc,unused-ignore]
    return " … ".join(f"{value:g}" for value in numbers(alpha))


def encode(alpha: Alpha) -> Any:
    """As an object keeps it: a number, a list of numbers, or a list of [pattern, number] in their order."""
    if not isinstance(alpha, tuple):
        return alpha
    return [list(one) if isinstance(one, tuple) else one for one in alpha]


def decode(value: Any) -> Alpha:
    """From an object; TypeError or ValueError if it is none."""
    if not isinstance(value, list):
        return float(value)
    if value and all(isinstance(one, list) for one in value):
        return tuple((str(pattern), float(number)) for pattern, number in value)
    if not value:
        raise ValueError("an empty list of alphas")
    return tuple(float(one) for one in value)
