"""``persona undo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option

if TYPE_CHECKING:
    from persona.verbs.undo import UndoResult


@click.command("undo")
@json_option
@click.pass_obj
def command(app: App) -> None:
    """Undo the last operation

    Restores HEAD, branches and persona.toml to their state before the last command that changed them. Nothing is deleted.

    \b
    persona undo
    persona undo && persona undo
    """
    from persona.verbs.undo import undo

    done = undo(app.repository(), command=app.command)
    app.show("undo", done, lambda console: render(console, "Undid", done, "persona redo"))


def render(console: Console, verb: str, done: UndoResult, inverse: str) -> None:
    """Print what was undone or redone, and the inverse command."""
    console.print(f"{verb}: [bold]{escape(done.command)}[/] (operation {done.operation[:7]})")
    console.print(f"To reverse: {inverse}", style="dim")
