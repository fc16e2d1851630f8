"""``persona restore``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option


@click.command("restore")
@json_option
@click.pass_obj
def command(app: App) -> None:
    """Drop the edits in persona.toml. What was dropped stays beside it as persona.toml.orig.

    \b
    persona restore
    """
    from persona.verbs.restore import restore

    done = restore(app.repository(), command=app.command)

    def render(console: Console) -> None:
        if not done.changed:
            console.print(f"{escape(done.path.name)} has no edits.")
        elif done.backup is None:
            console.print(f"{escape(done.path.name)} is back as it was committed.")
        else:
            console.print(
                f"{escape(done.path.name)} is back as it was committed; the edits are in {escape(done.backup.name)}."
            )

    app.show("restore", done, render)
