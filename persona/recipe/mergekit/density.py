"""Convert densities: mergekit rounds density · n down, persona rounds it to nearest.

The converted density keeps the same number of entries of every tensor: the same number if it does, else the shortest
decimal that does. If no single one does for all tensors, the exceptions get their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction

from persona.methods.parts.order import kept_of
from persona.recipe.alphas import Depths
from persona.recipe.mergekit.setting import by_name, evaluate

Count = Callable[[float, int], int]


def floor_of(density: float, entries: int) -> int:
    """Return the number of entries that mergekit's breadcrumbs keeps."""
    return entries if density >= 1 else int(density * entries)


def floor_or_one(density: float, entries: int) -> int:
    """Return the number of entries that mergekit's ties keeps."""
    return max(1, floor_of(density, entries))


def keeping(wanted: Collection[tuple[int, int]], count: Count, first: float) -> float | None:
    """Find a density that keeps the wanted numbers of entries; None if there is none.

    Args:
        wanted: Pairs of a tensor's entries and how many to keep.
        count: Rounding rule: number kept, from density and entries.
        first: Density to try first; then decimals, shortest first.
    """
    if _keeps(first, wanted, count):
        return first
    low = max((Fraction(kept) - Fraction(1, 2)) / size for size, kept in wanted)
    high = min(Fraction(kept + 1) / size for size, kept in wanted)
    for digits in range(1, 18):
        least = max(1, math.floor(low * 10**digits))
        most = min(10**digits, math.ceil(high * 10**digits))
        if most - least > 64:  # a coarser decimal would have matched already
            least, most = _around(first, digits, least, most)
        for number in range(least, most + 1):
            candidate = float(Fraction(number, 10**digits))
            if _keeps(candidate, wanted, count):
                return candidate
    return None


def _around(density: float, digits: int, first: int, last: int) -> tuple[int, int]:
    middle = round(density * 10**digits)
    return max(first, middle - 32), min(last, middle + 32)


def _keeps(density: float, wanted: Collection[tuple[int, int]], count: Count) -> bool:
    return all(count(density, size) == kept for size, kept in wanted)


def to_theirs(density: float, sizes: Mapping[str, int], theirs: Count) -> float | list[dict[str, object]]:
    """Convert persona's density to mergekit's.

    Args:
        sizes: Number of entries of each tensor.
        theirs: mergekit's rounding rule.

    Returns:
        A number, or a setting by tensor names.
    """
    single = keeping({(size, kept_of(density, size)) for size in sizes.values()}, theirs, density)
    if single is not None:
        return single
    strengths = dict.fromkeys(sizes, density)
    for name, size in sizes.items():
        if theirs(density, size) != kept_of(density, size):
            own = keeping([(size, kept_of(density, size))], theirs, density)
            strengths[name] = 1.0 if own is None else own
    return by_name(strengths)  # type: ignore[no-any-return]


def to_ours(setting: object, sizes: Mapping[str, int], depths: Depths, theirs: Count) -> float | None:
    """Convert mergekit's density, which may differ by tensor, to persona's; None if no single number fits."""
    densities = {name: evaluate(setting, name, depths) for name in sizes}
    wanted = {(sizes[name], theirs(value, sizes[name])) for name, value in densities.items() if value is not None}
    if None in densities.values() or not wanted:
        return None
    usual, _ = Counter(densities.values()).most_common(1)[0]
    return keeping(wanted, kept_of, usual or 1.0)
