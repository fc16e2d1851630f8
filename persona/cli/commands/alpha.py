"""``persona alpha``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option, once
from persona.cli.complete import STRENGTH
from persona.cli.tables.commits import recorded


@click.command("alpha", context_settings={"ignore_unknown_options": True})
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...", type=STRENGTH)
@click.option("-m", "--message", metavar="MSG", help="What this is for.")
@json_option
@click.pass_obj
def command(app: App, values: tuple[str, ...], message: str | None) -> None:
    """Set how strongly vectors act, and commit that.

    \b
    persona alpha listening=0.8
    persona alpha listening=0.8 suggesting=-0.5 -m "gentler"
    """
    from persona.verbs.alpha import alpha

    repo = app.repository()
    wanted = once((_value(text) for text in values), "vector")
    done = alpha(repo, wanted, message=message, author=app.author(repo), command=app.command)
    app.show("alpha", done, lambda console: recorded(console, done))


def _value(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not of the form NAME=VALUE, such as listening=0.8") from None
