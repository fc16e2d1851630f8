"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from persona.cli.output import console, note
from persona.progress import Task


class _BarTask:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int) -> None:
        self._bars.advance(self._task, amount)


class Bars:
    """A progress bar for each task, erased when the task ends."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show a bar until the block ends."""
        with Progress(*_columns(unit), console=console(stderr=True, emoji=False), transient=True) as bars:
            yield _BarTask(bars, bars.add_task(label, total=total))

    def note(self, text: str) -> None:
        """Print a note that stays on the screen."""
        note(f"note: {text}")


def _columns(unit: str) -> list[ProgressColumn]:
    start: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=None)]
    if unit == "bytes":
        return [*start, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    if unit == "weights":
        return [*start, TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()]
    return [*start, MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()]
