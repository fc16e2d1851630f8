"""`persona alpha`."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option, message_option, once
from persona.cli.complete import STRENGTH
from persona.cli.tables.commits import recorded
from persona.errors import UsageError


@click.command("alpha", context_settings={"ignore_unknown_options": True})
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...", type=STRENGTH)
@click.option("--scale", type=float, metavar="N", help="Scale of the whole recipe, which multiplies all vectors.")
@message_option
@json_option
@click.pass_obj
def command(app: App, values: tuple[str, ...], scale: float | None, message: str | None) -> None:
    """Set alphas and the scale, and commit them

    An alpha scales its vector: 0 turns it off, and a negative alpha subtracts it.

    \b
    persona alpha listening=0.8
    persona alpha listening=0.8 suggesting=-0.5 -m "gentler"
    persona alpha --scale 0.9
    """
    from persona.verbs.alpha import alpha

    if not values and scale is None:
        raise UsageError("there is nothing to set", "Such as: persona alpha NAME=0.8, or: persona alpha --scale 0.9")
    repo = app.repository()
    alphas = once((_value(text) for text in values), "vector")
    done = alpha(repo, alphas, scale=scale, **app.recording(repo, message))
    app.show("alpha", done, lambda console: recorded(console, done))


def _value(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"'{text}' is not of the form NAME=VALUE", f"To set its alpha to 0.8: persona alpha {text}=0.8"
        )
    try:
        return name, float(value)
    except ValueError:
        raise UsageError(
            f"the alpha of '{name}' is not a number: '{value}'", f"Such as: persona alpha {name}=0.8"
        ) from None
