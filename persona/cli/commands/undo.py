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
    """Take back the last change to the repository, whatever command made it.

    Commits, alphas, checkouts, branches: HEAD, branches and persona.toml are as before it. Nothing is deleted.

    \b
    persona undo
    persona undo && persona undo
    """
    from persona.verbs.undo import undo

    done = undo(app.repository(), command=app.command)
    app.show("undo", done, lambda console: said(console, "Undid", done, "persona redo"))


def said(console: Console, verb: str, done: UndoResult, back: str) -> None:
    """What was taken back or made again, and how to go the other way."""
    console.print(f"{verb}: [bold]{escape(done.command)}[/] (operation {done.operation[:7]})")
    console.print(f"Back again: {back}", style="dim")
