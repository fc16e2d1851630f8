"""``persona redo``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.commands.undo import render


@click.command("redo")
@json_option
@click.pass_obj
def command(app: App) -> None:
    """Redo the operation that was undone last

    \b
    persona redo
    """
    from persona.verbs.redo import redo

    done = redo(app.repository(), command=app.command)
    app.show("redo", done, lambda console: render(console, "Redid", done, "persona undo"))
