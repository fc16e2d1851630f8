"""``persona checkout``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import note
from persona.cli.render import short

if TYPE_CHECKING:
    from persona.verbs.checkout import CheckoutResult


@click.command("checkout")
@click.argument("rev", default="HEAD", type=REV)
@click.option("-b", "branch", metavar="NAME", help="Begin a branch there.")
@click.option("--detach", is_flag=True, help="Stand on the commit itself, even if REV is a branch.")
@json_option
@click.pass_obj
def command(app: App, rev: str, branch: str | None, detach: bool) -> None:
    """Go to a revision: its recipe becomes persona.toml. Weights on disk are never touched.

    A dash is where you were before.

    \b
    persona checkout HEAD~1
    persona checkout main
    persona checkout -b warmer
    persona checkout -
    """
    from persona.verbs.checkout import checkout

    done = checkout(app.repository(), rev, branch=branch, detach=detach, command=app.command)
    app.show("checkout", done, lambda console: render(console, done))
    warn(app, done)


def render(console: Console, done: CheckoutResult) -> None:
    """Where HEAD is now."""
    if done.branch is None:
        console.print(f"HEAD is now at [yellow]{short(done.commit)}[/] {escape(done.subject)}")
    else:
        new = "new branch" if done.created else "branch"
        console.print(
            f"On {new} [bold]{escape(done.branch)}[/] at [yellow]{short(done.commit)}[/] {escape(done.subject)}"
        )
    if done.carried:
        console.print("The edits in persona.toml came along.")


def warn(app: App, done: CheckoutResult) -> None:
    """What may be lost, or surprise, when HEAD is detached."""
    if app.json:
        return
    if done.left is not None:
        note(
            f"warning: commit {short(done.left)}, which you leave, is on no branch. "
            f"To keep it: persona branch NAME {short(done.left)}"
        )
    if done.branch is None:
        note("HEAD is detached: a commit here belongs to no branch until 'persona switch -c NAME'.")
