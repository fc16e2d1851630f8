"""Print a new commit, as every command that makes one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from persona.cli.render import changed, count

if TYPE_CHECKING:
    from persona.recipe.changes import RecipeChange
    from persona.workspace.record import RecordedCommit


def headline(console: Console, recorded: RecordedCommit) -> None:
    """Print ``[main 3f2a9c4] message``, as git does, and warnings."""
    where = recorded.branch or "detached HEAD"
    subject = recorded.message.partition("\n")[0]
    console.print(f"\\[{escape(where)} [yellow]{recorded.commit[:7]}[/]] {escape(subject)}")
    for text in recorded.notes:
        console.print(f"   [yellow]{escape(text)}[/]")


COUNTED = {
    "added": "vector added",
    "removed": "vector removed",
    "alpha": "alpha changed",
    "retrained": "vector retrained",
    "renamed": "vector renamed",
    "specification": "specification changed",
    "fisher": "Fisher diagonal changed",
    "moved": "order changed",
}
"""What is counted of a kind of change; a kind that is missing here says it itself, or is a setting."""


def counted(changes: Iterable[RecipeChange]) -> str:
    """Count recipe changes by kind: ``1 vector added, 2 alphas changed``."""
    kinds = Counter(
        COUNTED.get(change.kind, change.kind if change.kind.startswith("readout ") else "setting changed")
        for change in changes
    )
    parts = ((number, *kind.rpartition(" ")) for kind, number in kinds.items())
    return ", ".join(f"{count(number, what)} {done}" for number, what, _, done in parts)


def recorded(console: Console, done: RecordedCommit) -> None:
    """Print a new commit and its changes."""
    headline(console, done)
    changed(console, (change for change in done.changes if change.text not in done.message))
