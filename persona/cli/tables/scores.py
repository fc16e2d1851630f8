"""Figures, intervals and changes as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape

from persona.cli.render import table
from persona.history.evaluations import number_called

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from persona.evaluate.results import FigureChange, FigureDiff

STYLES = {"better": "green", "worse": "red", "changed": "yellow"}
MARKS = {"better": " ✓", "worse": " ✗", "changed": " •"}

LEGEND = "✓ better, ✗ worse, • changed: the 95 % interval of the difference excludes zero"


def number(value: float | None, sign: bool = False) -> str:
    """Three places, or three digits where it is small or large; with a sign if it is a difference."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    form = ".3f" if 0.01 <= abs(value) < 1000 or value == 0 else ".2e"
    return f"{value:{'+' if sign else ''}{form}}"


def interval(low: float | None, high: float | None) -> str:
    """``1.80 … 1.86``."""
    return "" if low is None or high is None else f"{number(low)} … {number(high)}"


def moved(change: FigureChange | None) -> str:
    """A difference with its mark, as markup; nothing where there is none."""
    return "" if change is None else marked(change.value, change.verdict)


def marked(value: float, verdict: str) -> str:
    """The same of its parts."""
    text = f"{number(value, sign=True)}{MARKS.get(verdict, '')}"
    return f"[{STYLES[verdict]}]{text}[/]" if verdict in STYLES else text


def moves(console: Console, found: Iterable[FigureDiff]) -> None:
    """What suites found on both sides of a comparison."""
    rows = table("measured", "", "before", "after", "change", "95 % interval", right={"before", "after"})
    for one in found:
        change = marked(one.after - one.before, one.verdict)
        values = number(one.before), number(one.after), change, interval(one.low, one.high)
        rows.add_row(escape(one.suite), called(one.measure, one.name), *values)
    console.print()
    console.print(rows)


def called(measure: str, name: str) -> str:
    """``listening loss``: what a measure is called in its suite, and which of its numbers this is."""
    return escape(number_called(measure, name))
