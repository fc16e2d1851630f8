"""``persona cherry-pick``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option, warn_if_detached
from persona.cli.complete import SHOWN
from persona.cli.tables.commits import recorded

if TYPE_CHECKING:
    from persona.verbs.cherry_pick import CherryPickResult


@click.command("cherry-pick")
@click.argument("what", metavar="REV|NAME@REV", type=SHOWN)
@click.option("-m", "--mainline", type=click.IntRange(min=1), metavar="N", help="Parent to compare a merge with.")
@click.option("--message", metavar="MSG", help="Commit message. [default: that of the commit]")
@json_option
@click.pass_obj
def command(app: App, what: str, mainline: int | None, message: str | None) -> int:
    """Take one commit's changes, or one vector

    Applies what a commit of another branch changed in its recipe and memory graph, in a new commit with its message and
    author. NAME@REV takes one vector or readout as it is in a revision, with its alpha. If both sides changed the same
    thing, the conflict is left in persona.toml.

    \b
    persona cherry-pick warmer~1
    persona cherry-pick 3f2a9c4
    persona cherry-pick voice@warmer        # only this vector
    """
    from persona.verbs.cherry_pick import cherry_pick

    repo = app.repository()
    done = cherry_pick(
        repo, what, mainline=mainline, message=message, author=app.author(repo), command=app.command
    )  # fmt: skip
    app.show("cherry-pick", done, lambda console: _render(console, done))
    warn_if_detached(app, done.recorded)
    return 0 if done.ok else 1


def _render(console: Console, done: CherryPickResult) -> None:
    if done.recorded is not None:
        recorded(console, done.recorded)
        return
    what = f"'{escape(done.name or done.subject)}' of {done.commit[:7]}"
    console.print(f"[red]Conflicts[/] with {what}:")
    for clash in done.clashes:
        console.print(f"  {escape(clash.text)}")
    console.print('\nResolve them in persona.toml, then: persona commit -m "…"   (or to abort: persona restore)')
