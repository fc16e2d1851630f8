"""``persona rm``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.complete import ENTRY
from persona.cli.tables.commits import recorded


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=ENTRY)
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], message: str | None) -> None:
    """Take vectors or readouts out of the recipe, and commit that. History keeps them.

    \b
    persona rm suggesting
    """
    from persona.verbs.rm import rm

    repo = app.repository()
    done = rm(repo, names, message=message, author=app.author(repo), command=app.command)
    app.show("rm", done, lambda console: recorded(console, done))
