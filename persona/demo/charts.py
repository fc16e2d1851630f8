"""Compute positions for the page's charts; the template draws them.

A panel is `WIDTH` units wide. Its scale runs from the smallest to the largest number, with a reference line at zero (for
differences) or at the first row (for values).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from persona.demo.telling import DemoTable, TableCell, is_difference, largest

WIDTH, LINE, TOP, EDGE = 150.0, 18.0, 20.0, 6.0
"""Sizes in drawing units: width of a panel, height of a row, height of its title, and horizontal margin."""

TALL = 60.0
"""Height of a curve."""


@dataclass(frozen=True)
class ChartDot:
    """Horizontal positions of a number and its interval; `y` is the middle of its row."""

    x: float
    low: float
    high: float
    y: float
    cell: TableCell


@dataclass(frozen=True)
class Panel:
    """One column of a table; `line` is the position of the reference line."""

    name: str
    line: float
    dots: tuple[ChartDot, ...]


@dataclass(frozen=True)
class Curve:
    """A run's curve: the points of a polyline, and the first and last values."""

    name: str
    points: str
    first: float
    last: float


def panels(table: DemoTable) -> tuple[Panel, ...]:
    """Lay out a table as points with intervals: one panel per column, with a shared scale for differences."""
    shared = _scale(_numbers(table, range(len(table.columns)))) if is_difference(table) else None
    return tuple(_panel(table, column, shared) for column in range(len(table.columns)))


def _panel(table: DemoTable, column: int, shared: _Scale | None) -> Panel:
    scale = shared or _scale(_numbers(table, [column]))
    dots = []
    for number, row in enumerate(table.rows):
        cell = row.cells[column]
        if cell is not None and math.isfinite(cell.value):
            low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
            dots.append(ChartDot(scale(cell.value), scale(low), scale(high), TOP + LINE * (number + 0.5), cell))
    first = table.rows[0].cells[column]
    against = 0.0 if shared is not None or first is None else first.value
    return Panel(table.columns[column], scale(against), tuple(dots))


@dataclass(frozen=True)
class _Scale:
    least: float
    most: float

    def __call__(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least) if self.most > self.least else 0.5
        return round(EDGE + share * (WIDTH - 2 * EDGE), 2)


def _scale(numbers: Sequence[float]) -> _Scale:
    return _Scale(min(numbers), max(numbers))


def _numbers(table: DemoTable, columns: Sequence[int]) -> list[float]:
    ends = list(_ends(table, columns))
    return ends + ([0.0] if is_difference(table) or not ends else [])


def _ends(table: DemoTable, columns: Sequence[int]) -> Iterator[float]:
    for row in table.rows:
        for cell in (row.cells[column] for column in columns):
            if cell is not None:
                yield from (n for n in (cell.value, cell.low, cell.high) if n is not None and math.isfinite(n))


def curve(table: DemoTable) -> Curve:
    """Lay out a table of one column as a curve; its row labels are steps."""
    pairs = [(int(row.label), row.cells[0].value) for row in table.rows if row.cells[0] is not None]
    across, up = _scale([step for step, _ in pairs]), _scale([0.0, *(value for _, value in pairs)])
    tall = (TALL - 2 * EDGE) / (WIDTH - 2 * EDGE)
    points = (f"{across(step)},{round(TALL - EDGE - (up(value) - EDGE) * tall, 2)}" for step, value in pairs)
    return Curve(table.title, " ".join(points), pairs[0][1], pairs[-1][1])


def shade(table: DemoTable, cell: TableCell) -> float:
    """Opacity of a cell from 0 to 1, by its size relative to `table.fullest` or the largest number in the table."""
    most = table.fullest if table.fullest is not None else largest(table.rows)
    return min(1.0, abs(cell.value) / most) if most else 0.0
