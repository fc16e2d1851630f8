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
@click.option(
    "-s", "--source", default="HEAD", show_default=True, type=REV, metavar="REV", help="Revision to restore from."
)
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], source: str) -> None:
    """Discard edits in persona.toml

    Sets persona.toml back to its committed version, without a new commit, and saves the discarded edits as
    persona.toml.orig. With names, restores only those vectors and readouts, without saving a copy; the rest of the file
    keeps its edits.

    \b
    persona restore
    persona restore voice                       # discard the edits of one vector
    persona restore voice --source HEAD~3       # an older version; 'persona commit' records it
    """
    from persona.verbs.restore import restore

    done = restore(app.repository(), names, source=source, command=app.command)
    app.show("restore", done, lambda console: _render(console, done))


def _render(console: Console, done: RestoreResult) -> None:
    name = escape(done.path.name)
    version = "the committed version" if done.source == "HEAD" else f"the version of {escape(done.source)}"
    if done.vectors:
        if not done.changed:
            console.print(f"{escape(', '.join(done.vectors))}: already {version}.")
        changed(console, done.changes)
    elif not done.changed:
        console.print(f"{name} has no edits." if done.source == "HEAD" else f"{name} is already {version}.")
    else:
        kept = f"; your edits are in {escape(done.backup.name)}" if done.backup else ""
        console.print(f"{name} is {version} again{kept}.")
