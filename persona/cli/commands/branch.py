"""``persona branch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import BRANCH
from persona.cli.render import short, table
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.branch import Branch


@click.command("branch")
@click.argument("names", nargs=-1, type=BRANCH, metavar="[NAME [REV]]")
@click.option("-m", "--move", is_flag=True, help="Rename: [OLD] NEW; the current branch unless OLD is given.")
@click.option("-d", "--delete", is_flag=True, help="Delete branches whose commits other branches or tags have.")
@click.option("-D", "drop", is_flag=True, help="Delete branches, whatever they have.")
@click.option("-f", "--force", is_flag=True, help="Move a branch that is there already, or rename over one.")
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], move: bool, delete: bool, drop: bool, force: bool) -> None:
    """List branches, or make, rename and delete them. To go to one: persona switch.

    \b
    persona branch
    persona branch warmer
    persona branch experiment HEAD~3
    persona branch -m experiment warmer-2
    persona branch -d warmer
    """
    from persona.verbs import branch as verbs

    if move + (delete or drop) > 1:
        raise UsageError("-m and -d are two different things", "Give one of them.")
    if not names and not move and not delete and not drop:
        found = verbs.branches(app.repository())
        app.show("branch", found, lambda console: _list(console, found))
    elif delete or drop:
        if not names:
            raise UsageError("which branch shall go?", "Name it: persona branch -d NAME")
        gone = verbs.delete_branches(app.repository(), names, force=drop or force, command=app.command)
        app.show("branch", gone, lambda console: _deleted(console, gone))
    else:
        _check_count(names, move)
        if move:
            old, new = names if len(names) == 2 else (None, names[0])
            one = verbs.rename_branch(app.repository(), old, new, force=force, command=app.command)
        else:
            one = verbs.branch(app.repository(), *names, force=force, command=app.command)
        app.show("branch", one, lambda console: _one(console, one))


def _check_count(names: tuple[str, ...], move: bool) -> None:
    if not 1 <= len(names) <= 2:
        form = "persona branch -m [OLD] NEW" if move else "persona branch NAME [REV]"
        raise UsageError(f"{len(names)} names are {'too few' if not names else 'too many'}", f"Write it as: {form}")


def _list(console: Console, found: list[Branch]) -> None:
    rows = table("", "branch", "commit", "subject")
    for one in found:
        mark, style = ("*", "[bold green]") if one.current else ("", "[default]")
        rows.add_row(mark, f"{style}{escape(one.name)}[/]", f"[yellow]{short(one.commit)}[/]", escape(one.subject))
    console.print(rows)


def _one(console: Console, one: Branch) -> None:
    console.print(f"branch [bold]{escape(one.name)}[/] at [yellow]{short(one.commit)}[/] {escape(one.subject)}")


def _deleted(console: Console, gone: list[Branch]) -> None:
    for one in gone:
        console.print(f"Deleted branch {escape(one.name)} (it was at [yellow]{short(one.commit)}[/]).")
