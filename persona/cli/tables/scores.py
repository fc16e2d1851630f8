"""Format numbers, intervals and changes of suites."""

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
WRITTEN = "\nWritten to persona.toml. Record it with persona commit, or discard it with persona restore."


def number(value: float | None, sign: bool = False) -> str:
    """Format a number with three decimals, or in scientific notation if it is very small or large."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    form = ".3f" if 0.01 <= abs(value) < 1000 or value == 0 else ".2e"
    return f"{value:{'+' if sign else ''}{form}}"


def interval(low: float | None, high: float | None) -> str:
    """``1.80 … 1.86``, or nothing."""
    return "" if low is None or high is None else f"{number(low)} … {number(high)}"


def interval_of(change: FigureChange | None) -> str:
    """The interval of a difference, or nothing."""
    return interval(change.low, change.high) if change else ""


def moved(change: FigureChange | None) -> str:
    """A difference with its mark, as markup, or nothing."""
    return "" if change is None else marked(change.value, change.verdict)


def marked(value: float, verdict: str) -> str:
    """A value with the mark of a verdict, as markup."""
    text = f"{number(value, sign=True)}{MARKS.get(verdict, '')}"
    return f"[{STYLES[verdict]}]{text}[/]" if verdict in STYLES else text


def moves(console: Console, changes: Iterable[FigureDiff]) -> None:
    """Print the numbers of suites on both sides of a comparison."""
    numbers = "before", "after", "change", "95 % interval"
    rows = table("measured", "", *numbers, right={"before", "after"}, whole=numbers)
    for diff in changes:
        change = marked(diff.after - diff.before, diff.verdict)
        values = number(diff.before), number(diff.after), change, interval(diff.low, diff.high)
        rows.add_row(escape(diff.source), called(diff.measure, diff.name), *values)
    console.print()
    console.print(rows)


def called(measure: str, name: str) -> str:
    """``listening loss``: the name of a measure, and of one of its numbers."""
    return escape(number_called(measure, name))
