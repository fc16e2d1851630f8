"""``persona graph link``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.complete import NODE, VECTOR
from persona.cli.tables.commits import recorded


@click.command("link")
@click.argument("node", metavar="NODE[#SECTION]", type=NODE)
@click.argument("vector", type=VECTOR)
@click.option("-m", "--message", metavar="MSG", help="Commit message.")
@json_option
@click.pass_obj
def command(app: App, node: str, vector: str, message: str | None) -> None:
    """Link a vector to a node, and commit that

    Records that the vector implements the current text of the node. If the text changes later, the vector is stale.

    \b
    persona graph link rushing-pattern suggesting
    persona graph link core-personality#voice voice
    """
    from persona.verbs.graph.link import graph_link

    repo = app.repository()
    done = graph_link(repo, node, vector, message=message, author=app.author(repo), command=app.command)
    app.show("graph link", done, lambda console: recorded(console, done))
