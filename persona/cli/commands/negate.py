"""``persona negate``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.complete import VECTOR
from persona.cli.tables.commits import recorded


@click.command("negate")
@click.argument("name", type=VECTOR)
@click.option("--alpha", type=click.FloatRange(min=0), metavar="A", help="Take it away this strongly (α = −A).")
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(app: App, name: str, alpha: float | None, message: str | None) -> None:
    """Take a behaviour away: flip the sign of a vector's alpha, and commit that.

    \b
    persona negate suggesting
    persona negate suggesting --alpha 0.5
    """
    from persona.verbs.negate import negate

    repo = app.repository()
    done = negate(repo, name, alpha=alpha, message=message, author=app.author(repo), command=app.command)
    app.show("negate", done, lambda console: recorded(console, done))
