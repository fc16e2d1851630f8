"""How many entries a density keeps: mergekit rounds density · n down, we round it to nearest.

A density is carried over as one that keeps the same number of entries of every tensor: itself if it does, else the
shortest decimal that does. Where no single one does for all tensors, there is one for each that is an exception.
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
    """What mergekit's breadcrumbs keeps."""
    return entries if density >= 1 else int(density * entries)


def floor_or_one(density: float, entries: int) -> int:
    """What mergekit's ties keeps."""
    return max(1, floor_of(density, entries))


def keeping(wanted: Collection[tuple[int, int]], count: Count, first: float) -> float | None:
    """The density by which ``count`` keeps what is ``wanted``, pairs of entries and how many stay; None if none does.

    ``first`` is tried first, then decimals, the short before the long.
    """
    if _keeps(first, wanted, count):
        return first
    low = max((Fraction(kept) - Fraction(1, 2)) / size for size, kept in wanted)
    high = min(Fraction(kept + 1) / size for size, kept in wanted)
    for digits in range(1, 18):
        least = max(1, math.floor(low * 10**digits))
        most = min(10**digits, math.ceil(high * 10**digits))
        if most - least > 64:  # finer than it need be: a coarser number would have been found
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
    """``density`` as mergekit has to be told it, for tensors of these sizes: a number, or numbers by name."""
    one = keeping({(size, kept_of(density, size)) for size in sizes.values()}, theirs, density)
    if one is not None:
        return one
    strengths = dict.fromkeys(sizes, density)
    for name, size in sizes.items():
        if theirs(density, size) != kept_of(density, size):
            own = keeping([(size, kept_of(density, size))], theirs, density)
            strengths[name] = 1.0 if own is None else own
    return by_name(strengths)  # type: ignore[no-any-return]


def to_ours(setting: object, sizes: Mapping[str, int], depths: Depths, theirs: Count) -> float | None:
    """A density of mergekit's, as a setting, as we have to be told it; None if there is none."""
    told = {name: evaluate(setting, name, depths) for name in sizes}
    wanted = {(sizes[name], theirs(value, sizes[name])) for name, value in told.items() if value is not None}
    if None in told.values() or not wanted:
        return None
    usual, _ = Counter(told.values()).most_common(1)[0]
    return keeping(wanted, kept_of, usual or 1.0)
