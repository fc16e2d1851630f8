"""Progress on stderr: bars on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import cast

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
from rich.progress import Task as RichTask
from rich.text import Text

from persona.cli.output import console, note
from persona.cli.render import size
from persona.progress import Task

FIRST, LEAST, MOST = 30.0, 30.0, 300.0
"""Seconds before the first line of a task, the least between two, and the most if the share does not grow by `SHARE`."""
SHARE = 0.05


class Pace:
    """How quickly a task goes on, by its last reports, however far apart they are; rich forgets those of 30 s ago.

    What the first report covers is not counted: it may be work of an earlier run.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reports: deque[tuple[float, int]] = deque(maxlen=64)

    def add(self, amount: int) -> None:
        """Report that `amount` more units are done."""
        self._reports.append((self._clock(), amount))

    @property
    def each(self) -> float | None:
        """Seconds per unit; None if it is not known yet."""
        if len(self._reports) < 2:
            return None
        done = sum(amount for _, amount in self._reports) - self._reports[0][1]
        return (self._reports[-1][0] - self._reports[0][0]) / done if done > 0 else None


def rate(each: float | None, unit: str) -> str:
    """Format seconds per unit: `31 s each`, `4.2 steps/s`; empty if unknown."""
    if not each:
        return ""
    return f"{1 / each:.3g} {unit}/s" if each < 1 else f"{each:.{0 if each > 9.5 else 1}f} s each"


def duration(seconds: float) -> str:
    """Format a time that is left: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class _BarTask:
    def __init__(self, bars: Progress, task: TaskID, pace: Pace) -> None:
        self._bars, self._task, self._pace = bars, task, pace

    def advance(self, amount: int) -> None:
        self._pace.add(amount)
        self._bars.advance(self._task, amount)


class Bars:
    """A progress bar for each task, erased when the task ends; one inside another is below it."""

    def __init__(self) -> None:
        self._bars: Progress | None = None

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show a bar until the block ends."""
        with self._shown() as bars:
            pace = Pace(time.monotonic)
            task = bars.add_task(label, total=total, unit=unit, pace=pace)
            try:
                yield _BarTask(bars, task, pace)
            finally:
                bars.remove_task(task)

    def note(self, text: str) -> None:
        """Print a note that stays on the screen."""
        if self._bars is None:
            note(f"note: {text}")
        else:
            self._bars.console.print(f"note: {text}", markup=False, highlight=False)

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        """The display; a task inside another shares it."""
        if self._bars is not None:
            yield self._bars
            return
        with Progress(*_columns(), console=console(stderr=True, emoji=False), transient=True) as self._bars:
            try:
                yield self._bars
            finally:
                self._bars = None


def _columns() -> list[ProgressColumn]:
    percent, nothing = TextColumn("{task.percentage:>3.0f} %"), TextColumn("")
    return [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        _ByUnit({"bytes": DownloadColumn(), "weights": percent}, _Done()),
        _ByUnit({"bytes": TransferSpeedColumn(), "weights": nothing}, _Rate()),
        _ByUnit({"bytes": TimeRemainingColumn(), "weights": TimeRemainingColumn()}, _Left()),
    ]


class _ByUnit(ProgressColumn):
    """A column that depends on the unit of the task."""

    def __init__(self, columns: Mapping[str, ProgressColumn], other: ProgressColumn) -> None:
        super().__init__()
        self._columns, self._other = columns, other

    def render(self, task: RichTask) -> Text:
        column = self._columns.get(task.fields["unit"], self._other)
        return cast("Text", column.render(task))


class _Done(MofNCompleteColumn):
    def render(self, task: RichTask) -> Text:
        return super().render(task).append(f" {task.fields['unit']}")


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(rate(task.fields["pace"].each, task.fields["unit"]), style="progress.data.speed")


class _Left(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        each = task.fields["pace"].each
        left = "" if each is None or task.remaining is None else f"{duration(each * task.remaining)} left"
        return Text(left, style="progress.remaining")


class _LineTask:
    def __init__(self, label: str, total: int, unit: str, clock: Callable[[], float]) -> None:
        self._label, self._total, self._unit, self._clock = label, total, unit, clock
        self._pace, self._lock = Pace(clock), Lock()
        self._done = self._told = 0
        self._next, self._last = clock() + FIRST, clock() + MOST

    def advance(self, amount: int) -> None:
        with self._lock:
            self._pace.add(amount)
            self._done += amount
            now = self._clock()
            grown = self._done - self._told >= SHARE * self._total
            if self._done < self._total and now >= (self._next if grown else self._last):
                note(self._line())
                self._told, self._next, self._last = self._done, now + LEAST, now + MOST

    def _line(self) -> str:
        each = self._pace.each
        parts = [f"{self._done / self._total:.0%}"]
        if self._unit == "bytes":
            parts.insert(0, f"{size(self._done)} of {size(self._total)}")
        elif self._unit != "weights":
            parts = [f"{self._done:,} of {self._total:,} {self._unit}", *parts, rate(each, self._unit)]
        parts.append("" if each is None else f"{duration(each * (self._total - self._done))} left")
        return f"{self._label}: {', '.join(filter(None, parts))}"


class Lines:
    """A line for a task that takes long: after half a minute, then for each twentieth, or every five minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Print lines until the block ends."""
        yield _LineTask(label, total, unit, self._clock)

    def note(self, text: str) -> None:
        """Print a note."""
        note(f"note: {text}")
