"""mergekit's numbers: one, or several along the depth, or by filter; and the alphas that say the same.

    0.8                                           everywhere
    [0.2, 1.0]                                    along the depth, straight between: as an alpha that is a list
    [{filter: .mlp., value: 0.5}, {value: 1.0}]   the first filter that stands in the tensor's name; no filter is all

A filter is a part of a name, and a pattern is a whole one, so ``*.mlp.*`` is the filter ``.mlp.``, exactly. What no
filter says is said name by name, and what comes out is evaluated as mergekit does, and compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from persona.recipe import alphas
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.model import Entry

_PART = re.compile(r"\*([^*?\[\]]+)\*")
_ENDS = re.compile(r"embed|wte|wpe|\btok_|norm|ln_f|lm_head|embed_out|score", re.IGNORECASE)


def evaluate(setting: Any, name: str, depth: float) -> float | None:
    """What mergekit makes of a setting at a tensor (mergekit/config.py, ``evaluate_setting``)."""
    if isinstance(setting, int | float):
        return float(setting)
    if all(isinstance(one, int | float) for one in setting):
        place = depth * (len(setting) - 1)
        left = int(place)
        right = min(len(setting) - 1, left + 1)
        return float((1 - (place - left)) * setting[left] + (place - left) * setting[right])
    for one in setting:
        if one.get("filter") in (None, "*") or one["filter"] in name:
            return evaluate(one["value"], name, depth)
    return None


def strengths(entry: Entry, names: Iterable[str], depths: Depths) -> dict[str, float]:
    """How strong a vector is at each of its tensors; 0 where ``only`` or ``except`` keep it off."""
    found = {}
    for name in names:
        alpha = alphas.alpha_at(entry.alpha, name, depths) if entry.touches(name) else 0.0
        found[name] = 0.0 if alpha is None else alpha  # a plan has been made, so every pattern matches
    return found


def weight_of(entry: Entry, names: Iterable[str], depths: Depths) -> Any:
    """The setting that gives a vector the strength that it has, at every tensor that it changes."""
    wanted = strengths(entry, names, depths)
    for setting in _candidates(entry, wanted, depths):
        if all(_near(evaluate(setting, name, depths.at(name)), value) for name, value in wanted.items()):
            return setting
    return by_name(wanted)


def _near(one: float | None, other: float) -> bool:
    """Equal, but for how the two interpolate."""
    return one is not None and abs(one - other) <= 1e-12 * max(1.0, abs(other))


def _candidates(entry: Entry, wanted: Mapping[str, float], depths: Depths) -> list[Any]:
    """Settings that are short, and may be right."""
    free = not entry.only and not entry.excepted
    if not isinstance(entry.alpha, tuple):
        rest: list[Any] = [{"value": entry.alpha}]
    elif alphas.is_patterns(entry.alpha):
        rest = [_condition(str(pattern), value) for pattern, value in alphas.encode(entry.alpha)]
    else:
        outside = [name for name in wanted if alphas.layer_of(name)[0] != 1]
        plain = len(depths.blocks) == 1 and all(_ENDS.search(name) for name in outside)
        return [list(entry.alpha)] if free and plain else []
    if free and not isinstance(entry.alpha, tuple):
        return [entry.alpha]
    if entry.only and not isinstance(entry.alpha, tuple):
        rest = [*(_condition(pattern, entry.alpha) for pattern in entry.only), {"value": 0.0}]
    conditions = [*(_condition(pattern, 0.0) for pattern in entry.excepted), *rest]
    return [conditions] if None not in conditions else []


def _condition(pattern: str, value: float) -> dict[str, Any] | None:
    """A pattern as a filter; None if it is no part of a name."""
    if pattern == "*":
        return {"value": value}
    match = _PART.fullmatch(pattern)
    return {"filter": match[1], "value": value} if match else None


def by_name(wanted: Mapping[str, float]) -> Any:
    """A filter for every tensor that has not the most frequent value; longer names first, for they may hold others."""
    if not wanted:
        return 0.0
    usual = Counter(wanted.values()).most_common(1)[0][0]
    off = sorted((name for name in wanted if wanted[name] != usual), key=lambda name: (-len(name), name))
    inside = [name for name in wanted if name not in off and any(one in name for one in off)]
    said = sorted([*off, *inside], key=lambda name: (-len(name), name))
    return [*({"filter": name, "value": wanted[name]} for name in said), {"value": usual}] if said else usual


def alpha_of(setting: Any) -> Alpha:
    """A setting as an alpha; ValueError if it is none."""
    if isinstance(setting, int | float):
        return float(setting)
    if all(isinstance(one, int | float) for one in setting):
        return tuple(map(float, setting)) if len(setting) > 1 else float(setting[0])
    pairs: list[tuple[str, float]] = []
    for one in setting:
        if not isinstance(one["value"], int | float):
            raise ValueError("numbers along the depth under a filter")
        pattern = "*" if one.get("filter") in (None, "*") else f"*{_literal(one['filter'])}*"
        if pattern not in dict(pairs):
            pairs.append((pattern, float(one["value"])))
        if pattern == "*":
            break
    return tuple(pairs)


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def without_idle_patterns(alpha: Alpha, names: Iterable[str]) -> Alpha:
    """``alpha`` without the patterns that match none of ``names``, which a recipe may not have."""
    if not alphas.is_patterns(alpha):
        return alpha
    here = list(names)
    kept = [one for one in alphas.encode(alpha) if any(fnmatchcase(name, one[0]) for name in here)]
    if len(kept) == 1 and kept[0][0] == "*":
        return float(kept[0][1])
    return tuple((str(pattern), float(value)) for pattern, value in kept)
