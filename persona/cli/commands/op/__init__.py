"""``persona op``: ``persona op NAME`` is ``cli/commands/op/NAME.py``."""

from __future__ import annotations

import click

from persona.cli.lazy import LazyGroup, modules_of


@click.group("op", cls=LazyGroup, modules=modules_of(__name__, "log"))
def command() -> None:
    """Show the operation log

    Every change to the repository is an operation, which undo and redo can reverse.

    \b
    persona op log
    """
