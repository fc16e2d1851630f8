"""``persona stash``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import changed, short
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.stash import Stash, StashPopped


@click.command("stash")
@click.argument("action", type=click.Choice(("push", "pop", "list", "drop")), default="push")
@click.argument("which", required=False, metavar="[N]")
@click.option("-m", "--message", metavar="MSG", help="What the edit is, for 'stash list'.")
@json_option
@click.pass_obj
def command(app: App, action: str, which: str | None, message: str | None) -> int:
    """Put edits of persona.toml aside, or take them back

    push, the default, stores the edits and sets persona.toml back to its committed version. pop applies a stash and drops
    it, drop only drops it. N counts from the newest, which is 0. A stash is also a revision, 'stash@{0}', for show, diff
    and build.

    \b
    persona stash -m "try a softer voice"
    persona stash list
    persona stash pop
    persona stash drop 1
    persona diff HEAD 'stash@{0}'
    """
    from persona.verbs import stash as verbs

    if message is not None and action != "push":
        raise UsageError(f"--message belongs to push, not to {action}", "Leave it out.")
    if which is not None and action not in ("pop", "drop"):
        raise UsageError(f"{action} takes no number", "Usage: persona stash pop N, or persona stash drop N")
    repo, number = app.repository(), _number(which)
    if action == "push":
        made = verbs.stash(repo, message=message, author=app.author(repo), command=app.command)
        app.show("stash", made, lambda console: _one(console, made, "Stashed"))
    elif action == "list":
        every = verbs.stashes(repo)
        app.show("stash", every, lambda console: _list(console, every), hint="stash list")
    elif action == "drop":
        dropped = verbs.drop(repo, number, command=app.command)
        app.show("stash", dropped, lambda console: _one(console, dropped, "Dropped"), hint="stash drop")
    else:
        done = verbs.pop(repo, number, command=app.command)
        app.show("stash", done, lambda console: _popped(console, done), hint="stash pop")
        return 0 if done.ok else 1
    return 0


def _number(which: str | None) -> int:
    """The number of a stash: ``1``, or ``stash@{1}`` as in git."""
    found = re.fullmatch(r"(?:stash@\{)?(\d{1,9})\}?", which or "0")
    if found is None:
        raise UsageError(f"'{which}' is not the number of a stash", "See 'persona stash list'.")
    return int(found[1])


def _list(console: Console, stashes: list[Stash]) -> None:
    if not stashes:
        console.print("Nothing is stashed.")
    for stash in stashes:
        _one(console, stash)


def _one(console: Console, stash: Stash, verb: str = "") -> None:
    first = f"{verb} " if verb else ""
    console.print(f"{first}[bold]{escape(stash.name)}[/] [yellow]{short(stash.commit)}[/] {escape(stash.subject)}")
    changed(console, stash.changes)


def _popped(console: Console, done: StashPopped) -> None:
    if done.clashes:
        console.print(f"[red]Conflicts[/] between {escape(done.stash.name)} and persona.toml; the stash is kept:")
        for clash in done.clashes:
            console.print(f"  {escape(clash.text)}")
        console.print("\nResolve them in persona.toml, then: persona stash drop   (or to abort: persona restore)")
        return
    _one(console, done.stash, "Applied" if done.kept else "Applied and dropped")
    if done.kept:
        console.print("The stash is kept: some of its comments have no place in persona.toml as it is now.")
