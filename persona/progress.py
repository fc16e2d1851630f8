"""How long work tells whoever watches, without knowing who that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work that can be seen to advance."""

    def advance(self, amount: int) -> None:
        """``amount`` more units are done; called from any thread."""


class Progress(Protocol):
    """Where tasks are shown."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show a task of ``total`` units until the block ends."""

    def note(self, text: str) -> None:
        """Say something that a person should know before it takes long."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """Shows nothing: what a library does unless told otherwise."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """A task that nobody sees."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Nothing that anybody hears."""


SILENT: Progress = Silent()
