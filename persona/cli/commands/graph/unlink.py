"""``persona graph unlink``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.complete import VECTOR
from persona.cli.tables.commits import recorded


@click.command("unlink")
@click.argument("vector", type=VECTOR)
@click.option("-m", "--message", metavar="MSG", help="Commit message.")
@json_option
@click.pass_obj
def command(app: App, vector: str, message: str | None) -> None:
    """Unlink a vector from its node, and commit that

    \b
    persona graph unlink suggesting
    """
    from persona.verbs.graph.unlink import graph_unlink

    repo = app.repository()
    done = graph_unlink(repo, vector, message=message, author=app.author(repo), command=app.command)
    app.show("graph unlink", done, lambda console: recorded(console, done))
