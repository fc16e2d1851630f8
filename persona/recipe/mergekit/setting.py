"""Convert between mergekit's settings and alphas.

    0.8                                           everywhere
    [0.2, 1.0]                                    by depth, interpolated; tensors outside of blocks get the first number
    [{filter: .mlp., value: 0.5}, {value: 1.0}]   the first filter that is in the tensor's name; no filter matches all

Tensors after the blocks (the last norm, the head) get the last number of an alpha, but the first of mergekit's list, so
they need filters of their own. A filter matches a part of a name and a pattern all of it, so the pattern ``*.mlp.*`` is
exactly the filter ``.mlp.``. What no filter can express is written name by name; the result is then evaluated as
mergekit does, and compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from persona.recipe import alphas
from persona.recipe.alphas import Alpha, Depths
from persona.recipe.model import Entry

_PART = re.compile(r"\*([^*?\[\]]+)\*")


def evaluate(setting: Any, name: str, depths: Depths) -> float | None:
    """Evaluate a setting at a tensor as mergekit does (``evaluate_setting`` in its config.py, depths in plan.py)."""
    return evaluate_at(setting, name, depths.at(name) if alphas.layer_of(name)[0] == 1 else 0.0)


def evaluate_at(setting: Any, name: str, depth: float) -> float | None:
    """Evaluate a setting at a tensor and a depth from 0 to 1; None if no filter matches."""
    if isinstance(setting, int | float):
        return float(setting)
    if all(isinstance(item, int | float) for item in setting):
        place = depth * (len(setting) - 1)
        left = int(place)
        right = min(len(setting) - 1, left + 1)
        return float((1 - (place - left)) * setting[left] + (place - left) * setting[right])
    for condition in setting:
        if condition.get("filter") in (None, "*") or condition["filter"] in name:
            return evaluate_at(condition["value"], name, depth)
    return None


def strengths(entry: Entry, names: Iterable[str], depths: Depths) -> dict[str, float]:
    """Return the strength of a vector at each tensor; 0 where ``only`` or ``except`` exclude it."""
    by_tensor = {}
    for name in names:
        alpha = alphas.alpha_at(entry.alpha, name, depths) if entry.touches(name) else 0.0
        by_tensor[name] = 0.0 if alpha is None else alpha  # the plan has checked that a pattern matches
    return by_tensor


def weight_of(entry: Entry, names: Iterable[str], depths: Depths) -> Any:
    """Return the setting that gives a vector its strength at every tensor that it changes."""
    wanted = strengths(entry, names, depths)
    for setting in _candidates(entry, wanted, depths):
        if all(_near(evaluate(setting, name, depths), value) for name, value in wanted.items()):
            return setting
    return by_name(wanted)


def _near(value: float | None, wanted: float) -> bool:
    """Compare, allowing for different rounding of interpolated values."""
    return value is not None and abs(value - wanted) <= 1e-12 * max(1.0, abs(wanted))


def _candidates(entry: Entry, wanted: Mapping[str, float], depths: Depths) -> list[Any]:
    """Return short settings that may be equivalent."""
    free = not entry.only and not entry.excepted
    if not isinstance(entry.alpha, tuple):
        rest: list[Any] = [{"value": entry.alpha}]
    elif alphas.is_patterns(entry.alpha):
        rest = [_condition(str(pattern), value) for pattern, value in alphas.encode(entry.alpha)]
    else:
        own: list[Any] = list(entry.alpha)
        outside = [name for name in wanted if alphas.layer_of(name)[0] != 1 and wanted[name] != own[0]]
        filters = [{"filter": name, "value": wanted[name]} for name in outside]
        return [[*filters, {"value": own}] if filters else own] if free else []
    if free and not isinstance(entry.alpha, tuple):
        return [entry.alpha]
    if entry.only and not isinstance(entry.alpha, tuple):
        rest = [*(_condition(pattern, entry.alpha) for pattern in entry.only), {"value": 0.0}]
    conditions = [*(_condition(pattern, 0.0) for pattern in entry.excepted), *rest]
    return [conditions] if None not in conditions else []


def _condition(pattern: str, value: float) -> dict[str, Any] | None:
    """Return a pattern as a filter; None if it is not ``*PART*``."""
    if pattern == "*":
        return {"value": value}
    match = _PART.fullmatch(pattern)
    return {"filter": match[1], "value": value} if match else None


def by_name(wanted: Mapping[str, float]) -> Any:
    """Return a filter for every tensor that does not have the most frequent value.

    Longer names come first, because a name may contain another.
    """
    if not wanted:
        return 0.0
    usual = Counter(wanted.values()).most_common(1)[0][0]
    off = sorted((name for name in wanted if wanted[name] != usual), key=lambda name: (-len(name), name))
    inside = [name for name in wanted if name not in off and any(part in name for part in off)]
    filters = sorted([*off, *inside], key=lambda name: (-len(name), name))
    return [*({"filter": name, "value": wanted[name]} for name in filters), {"value": usual}] if filters else usual


def alpha_of(setting: Any, names: Iterable[str], depths: Depths) -> Alpha | None:
    """Return the alpha that a setting means for a vector that changes `names`; None if one has no value."""
    wanted = {}
    for name in names:
        value = evaluate(setting, name, depths)
        if value is None:
            return None
        wanted[name] = value
    for alpha in _alphas(setting, wanted):
        if all(_near(alphas.alpha_at(alpha, name, depths), value) for name, value in wanted.items()):
            return alpha
    return tuple(_by_block(wanted))


def _alphas(setting: Any, wanted: Mapping[str, float]) -> Iterator[Alpha]:
    """Yield short alphas that may be equivalent."""
    if len({*wanted.values()}) == 1:
        yield next(iter(wanted.values()))
    if isinstance(setting, list):
        inner = [item["value"] for item in setting if isinstance(item, dict) and isinstance(item["value"], list)]
        for values in [setting, *inner]:
            if all(isinstance(value, int | float) for value in values):
                yield tuple(map(float, values))
        if not inner and all(isinstance(item, dict) for item in setting):
            yield tuple(_patterns(setting, wanted))


def _patterns(conditions: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield conditions as patterns, without those that match none of `names`, which are errors in a recipe."""
    tensors, seen = list(names), set()
    for condition in conditions:
        pattern = "*" if condition.get("filter") in (None, "*") else f"*{_literal(condition['filter'])}*"
        if pattern not in seen and any(fnmatchcase(name, pattern) for name in tensors):
            seen.add(pattern)
            yield pattern, float(condition["value"])
        if pattern == "*":
            break


def _by_block(wanted: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Yield a pattern for every block with a single strength, and one for every other tensor."""
    blocks: dict[str, set[float]] = {}
    for name, value in wanted.items():
        if alphas.layer_of(name)[0] == 1:
            blocks.setdefault(alphas.layer_of(name)[1], set()).add(value)
    for block, values in blocks.items():
        if len(values) == 1:
            yield f"{_literal(block)}.*", values.pop()
    for name, value in wanted.items():
        if blocks.get(alphas.layer_of(name)[1], {0.0}):  # its block has several strengths
            yield _literal(name), value


def numbers(setting: Any) -> list[float]:
    """Return every number in a setting."""
    if isinstance(setting, int | float):
        return [float(setting)]
    return [value for item in setting for value in numbers(item["value"] if isinstance(item, dict) else item)]


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
