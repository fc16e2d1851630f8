"""The facts stored about a run: nested tables indented, each training curve as a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from persona.cli.output import plain
from persona.cli.render import count, size

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 12
"""Characters of a curve."""
DEEPEST = 8
"""Levels that are indented; deeper ones are printed as JSON."""


def facts(console: Console, run: Mapping[str, Any]) -> None:
    """Print all facts that are not empty: single ones first, then tables."""
    known = _known(run)
    if known:
        console.print()
    tables = {key: value for key, value in known.items() if isinstance(value, Mapping)}
    for key, value in sorted(known.items()):
        if key not in tables and not _is_rows(value):
            console.print(f" {_label(key)}: {escape(_fact(key, value))}")
    for key, value in sorted(known.items()):
        if key == "history" and key in tables:
            _history(console, value)
        elif key in tables:
            console.print(f" {_label(key)}:")
            _table(console, value, 3)
        elif _is_rows(value):
            for row in value:
                console.print(f" {_label(key)}:")
                _table(console, row, 3)


def _known(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value not in (None, "", {}, [])}


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(console: Console, table: Mapping[str, Any], indent: int) -> None:
    known = _known(table)
    flat = [key for key, value in known.items() if not isinstance(value, Mapping)]
    width = min(30, max((len(_label(key)) for key in flat), default=0))
    for key, value in known.items():
        if isinstance(value, Mapping) and indent < 2 * DEEPEST:
            console.print(f"{' ' * indent}{_label(key)}:")
            _table(console, value, indent + 2)
        else:
            console.print(f"{' ' * indent}{_label(key):{width}}  {escape(_fact(key, value))}")


def _label(key: str) -> str:
    return escape(key.replace("_", " "))


def _fact(key: str, value: Any) -> str:
    if key in ("bytes", "total_bytes", "kept_bytes") and isinstance(value, int):
        return size(value)
    if key == "relative_norm" and isinstance(value, float):
        return f"{value:.2%}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _history(console: Console, history: Mapping[str, Any]) -> None:
    lines = list(_curves(history))
    name_width = min(24, max((len(name) for name, *_ in lines), default=0))
    ends_width = max((len(ends) for _, _, ends, _ in lines), default=0)
    if lines:
        console.print(" history:")
    for name, bars, ends, rest in lines:
        console.print(f"   {escape(name):{name_width}}  {bars:{WIDTH}}  {ends:{ends_width}}  [dim]{escape(rest)}[/]")


def _curves(history: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the name, sparkline, first → last value and further text of each curve."""
    for name, curve in sorted(history.items()):
        points = curve.get("points") if isinstance(curve, Mapping) else None
        pairs = (
            [point for point in points if isinstance(point, list) and len(point) == 2]
            if isinstance(points, list)
            else []
        )
        if not pairs:
            continue
        numbers = [(value, step) for step, value in pairs if isinstance(value, int | float)]
        ends = _number(pairs[-1][1]) if len(pairs) == 1 else f"{_number(pairs[0][1])} → {_number(pairs[-1][1])}"
        rest = f"@ {pairs[-1][0]}"
        if len(pairs) > 1 and numbers:
            least, step = min(numbers, key=lambda number: number[0])
            total = curve.get("count")
            rest = f"least {_number(least)} @ {step}, {count(total if isinstance(total, int) else len(pairs), 'point')}"
        yield name, sparkline([value for _, value in pairs]) if len(pairs) > 1 else "", ends, rest


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def sparkline(values: list[Any], width: int = WIDTH) -> str:
    """Draw a curve in at most `width` characters, with `·` for values that are not numbers."""
    if len(values) > width:
        values = [values[at * (len(values) - 1) // (width - 1)] for at in range(width)]
    numbers = [value for value in values if isinstance(value, int | float)]
    low, high = min(numbers, default=0), max(numbers, default=0)

    def bar(value: Any) -> str:
        if not isinstance(value, int | float):
            return "·"
        # halves, as the difference of two floats may be infinite
        return BARS[round((value / 2 - low / 2) / (high / 2 - low / 2) * (len(BARS) - 1))] if high > low else BARS[0]

    return "".join(map(bar, values))
