"""``persona restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import ENTRY, REV
from persona.cli.render import changed

if TYPE_CHECKING:
    from persona.verbs.restore import RestoreResult


@click.command("restore")
@click.argument("names", nargs=-1, type=ENTRY, metavar="[NAME]...")
@click.option("-s", "--source", default="HEAD", type=REV, metavar="REV", help="As it was there; HEAD otherwise.")
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], source: str) -> None:
    """Make persona.toml, or vectors and readouts in it, what was committed. Nothing is recorded by it.

    Edits that are dropped stay beside it as persona.toml.orig. With names, only those are brought back, and the rest
    of the file stays as it is.

    \b
    persona restore
    persona restore voice                       # drop what is edited about one vector
    persona restore voice --source HEAD~3       # as it was then; 'persona commit' records it
    """
    from persona.verbs.restore import restore

    done = restore(app.repository(), names, source=source, command=app.command)
    app.show("restore", done, lambda console: _render(console, done))


def _render(console: Console, done: RestoreResult) -> None:
    name = escape(done.path.name)
    then = "as it was committed" if done.source == "HEAD" else f"as it was at {escape(done.source)}"
    if done.vectors:
        if not done.changed:
            console.print(f"{escape(', '.join(done.vectors))}: {then} already.")
        changed(console, done.changes)
    elif not done.changed:
        console.print(f"{name} has no edits." if done.source == "HEAD" else f"{name} is {then} already.")
    else:
        kept = f"; the edits are in {escape(done.backup.name)}" if done.backup else ""
        console.print(f"{name} is back {then}{kept}.")
