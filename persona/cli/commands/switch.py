"""``persona switch``."""

from __future__ import annotations

import click

from persona.cli.app import App, json_option
from persona.cli.commands.checkout import render, warn
from persona.cli.complete import BRANCH, REV
from persona.errors import UsageError


@click.command("switch")
@click.argument("name", required=False, type=BRANCH)
@click.argument("rev", required=False, type=REV)
@click.option("-c", "--create", is_flag=True, help="Create the branch first, at REV. [default: HEAD]")
@click.option("-d", "--detach", is_flag=True, help="Detach HEAD at a commit instead of a branch.")
@json_option
@click.pass_obj
def command(app: App, name: str | None, rev: str | None, create: bool, detach: bool) -> None:
    """Switch to a branch

    Writes its recipe to persona.toml. A dash means the previous branch or commit.

    \b
    persona switch main
    persona switch -c warmer
    persona switch -c experiment HEAD~3
    persona switch -
    """
    from persona.verbs.checkout import checkout
    from persona.verbs.switch import switch

    if name is None and not detach:
        raise UsageError("no branch given", "List them with 'persona branch', or create one: persona switch -c NAME")
    if rev is not None and not create:
        raise UsageError(f"unexpected argument '{rev}'", f"To create a branch there: persona switch -c {name} {rev}")
    if detach:
        done = checkout(app.repository(), name or "HEAD", detach=True, command=app.command)
    else:
        done = switch(app.repository(), str(name), create=create, start=rev, command=app.command)
    app.show("switch", done, lambda console: render(console, done))
    warn(app, done)
