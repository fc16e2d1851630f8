"""mergekit's numbers: one, or several along the depth, or by filter; and the alphas that say the same.

    0.8                                           everywhere
    [0.2, 1.0]                                    along the depth, straight between; what is in no block has the first
    [{filter: .mlp., value: 0.5}, {value: 1.0}]   the first filter that stands in the tensor's name; no filter is all

An alpha that is a list gives its last number to what stands behind the blocks (the last norm, the head), and mergekit
its first: there the two have to be told so by name. A filter is a part of a name, and a pattern is a whole one, so ``*.mlp.*`` is the filter ``.mlp.``, exactly. What no
filter says is said name by name, and what comes out is evaluated as mergekit does, and compared.
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
    """What mergekit makes of a setting at a tensor (``evaluate_setting`` in its config.py; the depth: plan.py)."""
    return _evaluated(setting, name, depths.at(name) if alphas.layer_of(name)[0] == 1 else 0.0)


def _evaluated(setting: Any, name: str, depth: float) -> float | None:
    if isinstance(setting, int | float):
        return float(setting)
    if all(isinstance(one, int | float) for one in setting):
        place = depth * (len(setting) - 1)
        left = int(place)
        right = min(len(setting) - 1, left + 1)
        return float((1 - (place - left)) * setting[left] + (place - left) * setting[right])
    for one in setting:
        if one.get("filter") in (None, "*") or one["filter"] in name:
            return _evaluated(one["value"], name, depth)
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
        if all(_near(evaluate(setting, name, depths), value) for name, value in wanted.items()):
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
        own: list[Any] = list(entry.alpha)
        behind = [name for name in wanted if alphas.layer_of(name)[0] != 1 and wanted[name] != own[0]]
        said = [{"filter": name, "value": wanted[name]} for name in behind]
        return [[*said, {"value": own}] if said else own] if free else []
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


def alpha_of(setting: Any, names: Iterable[str], depths: Depths) -> Alpha | None:
    """The alpha by which a vector that changes ``names`` is as strong as the setting says; None if it says nothing."""
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
    """Alphas that are short, and may be right."""
    if len({*wanted.values()}) == 1:
        yield next(iter(wanted.values()))
    if isinstance(setting, list):
        inner = [one["value"] for one in setting if isinstance(one, dict) and isinstance(one["value"], list)]
        for one in [setting, *inner]:
            if all(isinstance(value, int | float) for value in one):
                yield tuple(map(float, one))
        if not inner and all(isinstance(one, dict) for one in setting):
            yield tuple(_patterns(setting, wanted))


def _patterns(conditions: Iterable[Mapping[str, Any]], names: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Conditions as patterns, without those that match none of ``names``, which a recipe may not have."""
    here, seen = list(names), set()
    for one in conditions:
        pattern = "*" if one.get("filter") in (None, "*") else f"*{_literal(one['filter'])}*"
        if pattern not in seen and any(fnmatchcase(name, pattern) for name in here):
            seen.add(pattern)
            yield pattern, float(one["value"])
        if pattern == "*":
            break


def _by_block(wanted: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """A pattern for every block that has one strength, and one for every other tensor."""
    blocks: dict[str, set[float]] = {}
    for name, value in wanted.items():
        if alphas.layer_of(name)[0] == 1:
            blocks.setdefault(alphas.layer_of(name)[1], set()).add(value)
    for block, values in blocks.items():
        if len(values) == 1:
            yield f"{_literal(block)}.*", values.pop()
    for name, value in wanted.items():
        if blocks.get(alphas.layer_of(name)[1], {0.0}):  # a block that has several
            yield _literal(name), value


def numbers(setting: Any) -> list[float]:
    """Every number in a setting."""
    if isinstance(setting, int | float):
        return [float(setting)]
    return [value for one in setting for value in numbers(one["value"] if isinstance(one, dict) else one)]


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
