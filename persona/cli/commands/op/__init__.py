"""``persona op``: ``persona op NAME`` is ``cli/commands/op/NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group("op", cls=LazyGroup, modules=modules_of(__name__, "log"))
def command() -> None:
    """Look at the operation log: every change to the repository, in the order in which it was made.

    \b
    persona op log
    """
