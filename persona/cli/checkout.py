"""``persona checkout``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import short


@click.command("checkout")
@click.argument("rev", default="HEAD", type=REV)
@click.option("-b", "branch", metavar="NAME", help="Begin a branch there.")
@json_option
@click.pass_obj
def command(app: App, rev: str, branch: str | None) -> None:
    """Go to a revision: its recipe becomes persona.toml. Weights on disk are never touched.

    \b
    persona checkout HEAD~1
    persona checkout main
    persona checkout HEAD -b warmer
    """
    from persona.verbs.checkout import checkout

    done = checkout(app.repository(), rev, branch=branch, command=app.command)

    def render(console: Console) -> None:
        if done.branch is None:
            console.print(f"HEAD is now at [yellow]{short(done.commit)}[/] {escape(done.subject)}")
            console.print("It is detached: a commit here belongs to no branch until 'persona checkout HEAD -b NAME'.")
        else:
            new = "new branch" if done.created else "branch"
            console.print(
                f"On {new} [bold]{escape(done.branch)}[/] at [yellow]{short(done.commit)}[/] {escape(done.subject)}"
            )

    app.show("checkout", done, render)
