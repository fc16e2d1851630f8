"""The demo's story as data: chapters with commands, and tables with the command that reproduces their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

MATRIX, DOTS, LINES = "matrix", "dots", "lines"
"""How a table is drawn: as a heat map of changes, as points with intervals, or as a curve."""


@dataclass(frozen=True)
class TableCell:
    """One number, as its command prints it.

    `low` and `high` are a 95 % interval, null if there is none. `change` is the difference from the baseline, and
    `verdict` its judgement: better, worse, changed, same or unknown.
    """

    value: float
    low: float | None = None
    high: float | None = None
    change: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row of a table; missing numbers are null."""

    label: str
    cells: tuple[TableCell | None, ...]


@dataclass(frozen=True)
class DemoTable:
    """Numbers of one command, which reproduces them with `--json` in the demo's folder.

    `picture` says how the table is drawn: matrix, dots, lines, or empty for not at all. `fullest` is the value with full
    colour in a matrix, null for the largest in the table.
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
    """The largest absolute value in some rows."""
    return max((abs(cell.value) for row in rows for cell in row.cells if cell is not None), default=0.0)


def is_difference(table: DemoTable) -> bool:
    """Whether the numbers of a table are changes, which have a sign and are drawn relative to zero."""
    return any(cell is not None and cell.verdict and cell.change is None for row in table.rows for cell in row.cells)


@dataclass(frozen=True)
class Answer:
    """A model's greedy reply. `fits` says whether it is of the kind that its prompt asks for, null if nothing judges it."""

    by: str
    text: str
    fits: bool | None = None


@dataclass(frozen=True)
class Reply:
    """A held-out prompt, and what several models reply to it."""

    prompt: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Chapter:
    """A chapter of the story, with its commands and results."""

    title: str
    text: str
    commands: tuple[str, ...]
    tables: tuple[DemoTable, ...]
    replies: tuple[Reply, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A claim, whether it holds, the numbers that show it, and the command that prints them."""

    claim: str
    holds: bool
    numbers: str
    command: str


@dataclass(frozen=True)
class DemoResult:
    """The whole demo.

    `about` says what it runs on. `replies` are those of the base and of the personality. `kept_bytes` is the size of the store, `whole_bytes` what full checkpoints would take. `rolled_back_identical` says
    whether the build after the rollback equals the first one, byte for byte.
    """

    about: str
    chapters: tuple[Chapter, ...]
    replies: tuple[Reply, ...]
    findings: tuple[Finding, ...]
    kept_bytes: int
    whole_bytes: int
    rolled_back_identical: bool


class Narrator(Protocol):
    """Shows the story while it runs."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a chapter."""

    def command(self, text: str) -> None:
        """Show the command a user would type for the next step."""

    def say(self, text: str) -> None:
        """Show the result of a step."""

    def table(self, table: DemoTable) -> None:
        """Show measurements."""

    def replies(self, replies: Sequence[Reply]) -> None:
        """Show replies side by side."""
