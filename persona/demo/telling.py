"""What the demo tells, as data: chapters with what was typed, and tables of which every number has a command that prints it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

MATRIX, DOTS, LINES = "matrix", "dots", "lines"
"""How a table is drawn: shades of change, points with intervals, or curves."""


@dataclass(frozen=True)
class TableCell:
    """One number, as its command prints it. ``low`` and ``high`` are a 95 % interval, null where there is none.

    ``change`` and ``verdict`` (better, worse, changed, same, unknown) say how far it is from what it is compared with.
    """

    value: float
    low: float | None = None
    high: float | None = None
    change: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class TableRow:
    """A line of a table; null where there is no such number."""

    label: str
    cells: tuple[TableCell | None, ...]


@dataclass(frozen=True)
class DemoTable:
    """Numbers of one command, typed in the demo's folder: with ``--json`` it prints every one of them again.

    ``picture`` is how it is drawn; empty where it is not. ``fullest`` is the number that is shaded fully, null for its own largest.
    """

    title: str
    command: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    unit: str = ""
    note: str = ""
    picture: str = ""
    fullest: float | None = None


def largest(rows: Iterable[TableRow]) -> float:
    """The largest size of a number."""
    return max((abs(cell.value) for row in rows for cell in row.cells if cell is not None), default=0.0)


def is_difference(table: DemoTable) -> bool:
    """Whether its numbers are changes: they have a sign, and zero means none."""
    return any(cell is not None and cell.verdict and cell.change is None for row in table.rows for cell in row.cells)


@dataclass(frozen=True)
class Chapter:
    """A part of the story: what was typed in it, and what was measured."""

    title: str
    text: str
    commands: tuple[str, ...]
    tables: tuple[DemoTable, ...]


@dataclass(frozen=True)
class Reply:
    """One held-out prompt and what two builds answer, greedily."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Finding:
    """A claim, whether the numbers bear it out, the numbers, and the command that prints them."""

    claim: str
    holds: bool
    numbers: str
    command: str


@dataclass(frozen=True)
class DemoResult:
    """All that the demo showed. ``kept_bytes`` is the store's; ``whole_bytes`` is what full checkpoints would take."""

    chapters: tuple[Chapter, ...]
    replies: tuple[Reply, ...]
    findings: tuple[Finding, ...]
    kept_bytes: int
    whole_bytes: int
    rolled_back_identical: bool


class Narrator(Protocol):
    """Whoever tells the story while it happens."""

    def chapter(self, title: str, text: str) -> None:
        """A new part begins."""

    def command(self, text: str) -> None:
        """What a person would type for what happens now."""

    def say(self, text: str) -> None:
        """What came of it."""

    def table(self, table: DemoTable) -> None:
        """What was measured."""
