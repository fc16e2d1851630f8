"""``persona revert``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.tables.commits import recorded

if TYPE_CHECKING:
    from persona.verbs.revert import RevertResult


@click.command("revert")
@click.argument("rev", type=REV)
@click.option("-m", "--mainline", type=click.IntRange(min=1), metavar="N", help="Parent of a merge to go back to.")
@click.option("--message", metavar="MSG", help="Commit message.")
@json_option
@click.pass_obj
def command(app: App, rev: str, mainline: int | None, message: str | None) -> int:
    """Undo one commit's changes in a new commit

    Changes of later commits stay.

    \b
    persona revert HEAD
    persona revert 3f2a9c4
    persona revert HEAD~2 -m 1            # a merge
    """
    from persona.verbs.revert import revert

    repo = app.repository()
    done = revert(
        repo, rev, mainline=mainline, message=message, author=app.author(repo), command=app.command
    )  # fmt: skip
    app.show("revert", done, lambda console: _render(console, done))
    return 0 if done.ok else 1


def _render(console: Console, done: RevertResult) -> None:
    if done.recorded is not None:
        recorded(console, done.recorded)
        return
    console.print(f"[red]Conflicts[/] between '{escape(done.subject)}' and later commits:")
    for clash in done.clashes:
        console.print(f"  {escape(clash.text)}")
    console.print('\nResolve them in persona.toml, then: persona commit -m "…"   (or to abort: persona restore)')
