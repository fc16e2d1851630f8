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
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.checkout import CheckoutResult


@click.command("checkout")
@click.argument("rev", default="HEAD", type=REV)
@click.option("-b", "branch", metavar="NAME", help="Create a branch at REV and switch to it.")
@click.option("--detach", is_flag=True, help="Detach HEAD, even if REV is a branch.")
@json_option
@click.pass_obj
def command(app: App, rev: str, branch: str | None, detach: bool) -> None:
    """Check out the recipe of a revision

    Writes its recipe to persona.toml and moves HEAD. Weights on disk are never touched. A dash means the previous
    branch or commit.

    \b
    persona checkout HEAD~1
    persona checkout main
    persona checkout -b warmer
    persona checkout -
    """
    from persona.verbs.checkout import checkout

    repo = app.repository()
    if rev == repo.recipe_path.name:
        raise UsageError(f"'{rev}' is a file, not a revision", "Discard its edits: persona restore")
    done = checkout(repo, rev, branch=branch, detach=detach, command=app.command)
    app.show("checkout", done, lambda console: render(console, done))
    warn(app, done)


def render(console: Console, done: CheckoutResult) -> None:
    """Print where HEAD is now."""
    if done.branch is None:
        console.print(f"HEAD is now at [yellow]{short(done.commit)}[/] {escape(done.subject)}")
    else:
        new = "new branch" if done.created else "branch"
        console.print(
            f"On {new} [bold]{escape(done.branch)}[/] at [yellow]{short(done.commit)}[/] {escape(done.subject)}"
        )
    if done.carried:
        console.print("Your edits in persona.toml were kept.")


def warn(app: App, done: CheckoutResult) -> None:
    """Warn about commits that may be lost with a detached HEAD."""
    if app.json:
        return
    if done.left is not None:
        note(
            f"warning: you are leaving commit {short(done.left)}, which is on no branch. "
            f"To keep it: persona branch NAME {short(done.left)}"
        )
    if done.branch is None:
        note("HEAD is detached: new commits belong to no branch until you run 'persona switch -c NAME'.")
