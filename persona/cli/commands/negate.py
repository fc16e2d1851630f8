"""`persona negate`."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option, message_option
from persona.cli.complete import VECTOR
from persona.cli.tables.commits import recorded


@click.command("negate")
@click.argument("name", type=VECTOR)
@click.option(
    "--alpha", type=click.FloatRange(min=0), metavar="A", help="Set alpha to −A instead of flipping its sign."
)
@message_option
@json_option
@click.pass_obj
def command(app: App, name: str, alpha: float | None, message: str | None) -> None:
    """Subtract a behaviour instead of adding it

    Flips the sign of the vector's alpha, or sets it to −A, and commits the recipe.

    \b
    persona negate suggesting
    persona negate suggesting --alpha 0.5
    """
    from persona.verbs.negate import negate

    repo = app.repository()
    done = negate(repo, name, alpha=alpha, **app.recording(repo, message))
    app.show("negate", done, lambda console: recorded(console, done))
