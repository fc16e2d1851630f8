"""``persona restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import ENTRY, REV
from persona.cli.render import changed
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.repository import Repository
    from persona.verbs.restore import RestoreResult


@click.command("restore")
@click.argument("names", nargs=-1, type=ENTRY, metavar="[persona.toml | NAME...]")
@click.option(
    "-s", "--source", default="HEAD", show_default=True, type=REV, metavar="REV", help="Revision to restore from."
)
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], source: str) -> None:
    """Discard edits in persona.toml

    Sets persona.toml back to its committed version, without a new commit, and saves the discarded edits as
    persona.toml.orig; those of the two times before are in persona.toml.orig-2 and -3. With names, restores only those
    vectors and readouts, without saving a copy; the rest of the file keeps its edits.

    \b
    persona restore                             # or: persona restore persona.toml
    persona restore voice                       # discard the edits of one vector
    persona restore voice --source HEAD~3       # an older version; 'persona commit' records it
    """
    from persona.verbs.restore import restore

    repo = app.repository()
    if any(is_recipe(app, repo, name) for name in names):
        if len(names) > 1:
            raise UsageError(
                f"'{repo.recipe_path.name}' is the whole file and cannot be restored together with parts of it",
                "Leave out the file or the names.",
            )
        names = ()
    done = restore(repo, names, source=source, command=app.command)
    app.show("restore", done, lambda console: _render(console, done))


def is_recipe(app: App, repo: Repository, text: str) -> bool:
    """Whether an argument is the path of ``persona.toml``, as git's users type it, or the folder that holds it."""
    path = app.path(text).resolve()
    return text.endswith((".", "/", repo.recipe_path.name)) and path in (
        repo.recipe_path.resolve(),
        repo.root.resolve(),
    )


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
