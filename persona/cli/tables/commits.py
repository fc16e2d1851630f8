"""Print a new commit, as every command that makes one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from persona.cli.render import changed

if TYPE_CHECKING:
    from persona.workspace.record import RecordedCommit


def headline(console: Console, recorded: RecordedCommit) -> None:
    """Print ``[main 3f2a9c4] message``, as git does, and warnings."""
    where = recorded.branch or "detached HEAD"
    subject = recorded.message.partition("\n")[0]
    console.print(f"\\[{escape(where)} [yellow]{recorded.commit[:7]}[/]] {escape(subject)}")
    for text in recorded.notes:
        console.print(f"   [yellow]{escape(text)}[/]")


def recorded(console: Console, done: RecordedCommit) -> None:
    """Print a new commit and its changes."""
    headline(console, done)
    changed(console, (change for change in done.changes if change.text not in done.message))
