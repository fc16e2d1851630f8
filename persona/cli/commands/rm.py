"""`persona rm`."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option, message_option
from persona.cli.complete import ENTRY
from persona.cli.tables.commits import recorded


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", type=ENTRY)
@message_option
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], message: str | None) -> None:
    """Remove vectors or readouts from the recipe

    Commits the recipe. Earlier commits keep what was removed, and 'persona restore' brings it back.

    \b
    persona rm suggesting
    """
    from persona.verbs.rm import rm

    repo = app.repository()
    done = rm(repo, names, **app.recording(repo, message))
    app.show("rm", done, lambda console: recorded(console, done))
