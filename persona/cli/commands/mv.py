"""`persona mv`."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option, message_option, warn_if_detached
from persona.cli.complete import ENTRY
from persona.cli.tables.commits import recorded


@click.command("mv")
@click.argument("old", type=ENTRY)
@click.argument("new")
@message_option
@json_option
@click.pass_obj
def command(app: App, old: str, new: str, message: str | None) -> None:
    """Rename a vector or readout of the recipe

    Commits the recipe. Its place in persona.toml and its comments stay. Earlier commits keep the old name. To rename a
    branch, see 'persona branch -m'.

    \b
    persona mv voice gentle-voice
    """
    from persona.verbs.mv import mv

    repo = app.repository()
    done = mv(repo, old, new, **app.recording(repo, message))
    app.show("mv", done, lambda console: recorded(console, done))
    warn_if_detached(app, done)
