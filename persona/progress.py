"""How long-running work reports its progress, without knowing how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """A piece of work whose progress is shown."""

    def advance(self, amount: int) -> None:
        """Report that ``amount`` more units are done; may be called from any thread."""


class Progress(Protocol):
    """Shows tasks and notes."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show a task of ``total`` units until the block ends."""

    def note(self, text: str) -> None:
        """Show something that the user should know before the work takes long."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass


class Silent:
    """Shows nothing; the default for library calls."""

    @contextmanager
    def task(self, label: str, total: int, unit: str = "bytes") -> Iterator[Task]:
        """Show nothing."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Show nothing."""


SILENT: Progress = Silent()
