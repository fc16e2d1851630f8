"""How many entries a density keeps: mergekit rounds density · n down, we round it to nearest.

A density is carried over as one that keeps the same number of entries of every tensor: itself if it does, else the
shortest decimal that does. Where no single one does for all tensors, there is one for each that is an exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from persona.methods.parts.order import kept_of

Count = Callable[[float, int], int]


def floor_of(density: float, entries: int) -> int:
    """What mergekit's breadcrumbs keeps."""
    return entries if density >= 1 else int(density * entries)


def floor_or_one(density: float, entries: int) -> int:
    """What mergekit's ties keeps."""
    return max(1, floor_of(density, entries))


def carried_over(density: float, sizes: Iterable[int], ours: Count, theirs: Count) -> float | None:
    """The density by which ``theirs`` keeps of all ``sizes`` what ``density`` keeps by ``ours``; None if none does."""
    wanted = {size: ours(density, size) for size in sizes if size}
    if _keeps(density, wanted, theirs):
        return density
    low = max((Fraction(kept) - Fraction(1, 2)) / size for size, kept in wanted.items())
    high = min(Fraction(kept + 1) / size for size, kept in wanted.items())
    for digits in range(1, 18):
        first = max(1, math.floor(low * 10**digits))
        last = min(10**digits, math.ceil(high * 10**digits))
        if last - first > 64:  # finer than it need be: a coarser number would have been found
            first, last = _around(density, digits, first, last)
        for number in range(first, last + 1):
            candidate = float(Fraction(number, 10**digits))
            if _keeps(candidate, wanted, theirs):
                return candidate
    return None


def _around(density: float, digits: int, first: int, last: int) -> tuple[int, int]:
    middle = round(density * 10**digits)
    return max(first, middle - 32), min(last, middle + 32)


def _keeps(density: float, wanted: Mapping[int, int], count: Count) -> bool:
    return all(count(density, size) == kept for size, kept in wanted.items())


def to_theirs(density: float, sizes: Mapping[str, int], theirs: Count) -> float | list[dict[str, object]]:
    """``density`` as mergekit has to be told it, for tensors of these sizes: a number, or numbers by name."""
    one = carried_over(density, set(sizes.values()), kept_of, theirs)
    if one is not None:
        return one
    off = [name for name, size in sizes.items() if theirs(density, size) != kept_of(density, size)]
    conditions: list[dict[str, object]] = []
    for name in sorted(off, key=lambda name: (-len(name), name)):
        value = carried_over(density, [sizes[name]], kept_of, theirs)
        conditions.append({"filter": name, "value": 1.0 if value is None else value})
    return [*conditions, {"value": density}]


def to_ours(density: float, sizes: Iterable[int], theirs: Count) -> float | None:
    """A density of mergekit's as we have to be told it; None if there is none."""
    return carried_over(density, set(sizes), theirs, kept_of)
