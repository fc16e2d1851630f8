"""Alphas: the strength of a vector at each tensor.

    alpha = 0.8                                     the same everywhere
    alpha = [0.2, 1.0]                              by depth, interpolated from the first block to the last
    alpha = {"*.mlp.*" = 0.5, "*" = 1.0}            by pattern; the first match counts

Depth: block i of n is at i/(n - 1), and the m numbers of a list are at 0, 1/(m - 1), …, 1. Tensors before the blocks
(embeddings) are at 0, tensors after them (the last norm, the head) at 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from persona.store.fields import number, rows, text

Patterns = tuple[tuple[str, float], ...]
Alpha = float | tuple[float, ...] | Patterns

_BLOCK = re.compile(r"^(.*?\.|)(\d+)\.")
_FRONT = re.compile(r"embed|wte|wpe|\btok_", re.IGNORECASE)


@dataclass(frozen=True)
class Depths:
    """Number of blocks in each stack of a model, by the prefix of their names ("model.layers.")."""

    blocks: dict[str, int]

    @classmethod
    def of(cls, names: Iterable[str]) -> Depths:
        """Count the blocks in the names of all tensors of a base."""
        blocks: dict[str, int] = {}
        for name in names:
            if match := _BLOCK.match(name):
                blocks[match[1]] = max(blocks.get(match[1], 0), int(match[2]) + 1)
        return cls(blocks)

    def at(self, name: str) -> float:
        """Return the depth of a tensor, from 0 to 1."""
        match = _BLOCK.match(name)
        if match is None:
            return 0.0 if _FRONT.search(name) else 1.0
        last = self.blocks.get(match[1], 1) - 1
        return min(1.0, int(match[2]) / last) if last > 0 else 0.0


def layer_of(name: str) -> tuple[int, str]:
    """Return what a tensor belongs to: 0 and a module before the blocks, 1 and a block, 2 and a module after them."""
    if match := _BLOCK.match(name):
        return 1, f"{match[1]}{match[2]}"
    return 0 if _FRONT.search(name) else 2, name.rpartition(".")[0] or name


def alpha_at(alpha: Alpha, name: str, depths: Depths) -> float | None:
    """Return the strength at one tensor; None if no pattern matches."""
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
    """Return whether the alpha is by pattern."""
    return isinstance(alpha, tuple) and isinstance(alpha[0], tuple)


def numbers(alpha: Alpha) -> list[float]:
    """Return every number in an alpha."""
    if not isinstance(alpha, tuple):
        return [alpha]
    return [item[1] if isinstance(item, tuple) else item for item in alpha]


def patterns(alpha: Alpha) -> list[str]:
    """Return every pattern in an alpha."""
    return [item[0] for item in alpha if isinstance(item, tuple)] if isinstance(alpha, tuple) else []


def acts(alpha: Alpha) -> bool:
    """Return whether the alpha is not 0 everywhere."""
    return any(numbers(alpha))


def adds(alpha: Alpha) -> bool:
    """Return whether the alpha is positive anywhere."""
    return any(value > 0 for value in numbers(alpha))


def times(alpha: Alpha, factor: float) -> Alpha:
    """Return the alpha with every number multiplied by `factor`."""
    return _mapped(alpha, lambda value: value * factor)


def rounded(alpha: Alpha, places: int) -> Alpha:
    """Return the alpha with every number rounded to so many decimal places."""
    return _mapped(alpha, lambda value: round(value, places))


def _mapped(alpha: Alpha, change: Callable[[float], float]) -> Alpha:
    if not isinstance(alpha, tuple):
        return change(alpha)
    if is_patterns(alpha):
        return tuple((pattern, change(value)) for pattern, value in alpha)  # type: ignore[misc,unused-ignore]
    return tuple(map(change, numbers(alpha)))


def alpha_text(alpha: Alpha) -> str:
    """Format an alpha for people: "0.8", "0.2 … 1" or "*.mlp.* 0.5, * 1"."""
    if not isinstance(alpha, tuple):
        return f"{alpha:g}"
    if is_patterns(alpha):
        return ", ".join(f"{pattern} {value:g}" for pattern, value in alpha)  # type: ignore[misc,unused-ignore]
    return " … ".join(f"{value:g}" for value in numbers(alpha))


def encode(alpha: Alpha) -> Any:
    """Return the form that objects store: a number, a list of numbers, or an ordered list of [pattern, number]."""
    if not isinstance(alpha, tuple):
        return alpha
    return [list(item) if isinstance(item, tuple) else item for item in alpha]


def decode(value: Any) -> Alpha:
    """Read the form that objects store.

    Raises:
        ValueError: `value` is not an alpha.
    """
    if not isinstance(value, list):
        return float(number(value, "alpha"))
    if value and all(isinstance(item, list) for item in value):
        pairs = [rows(item, "a pattern with its alpha", 2) for item in value]
        return tuple((text(pattern, "a pattern"), float(number(alpha, "alpha"))) for pattern, alpha in pairs)
    if not value:
        raise ValueError("an empty list of alphas")
    return tuple(float(number(alpha, "alpha")) for alpha in value)
