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
@click.option("-m", "--move", is_flag=True, help="Rename a branch: [OLD] NEW. OLD is the current branch by default.")
@click.option("-d", "--delete", is_flag=True, help="Delete branches that are merged into another branch or tag.")
@click.option("-D", "drop", is_flag=True, help="Delete branches, merged or not.")
@click.option("-a", "--all", "everything", is_flag=True, help="List all branches, as without an option.")
@click.option("-v", "--verbose", is_flag=True, help="List branches with commit and subject, as without an option.")
@click.option("-f", "--force", is_flag=True, help="Move, or overwrite with -m, an existing branch.")
@json_option
@click.pass_obj
def command(
    app: App,
    names: tuple[str, ...],
    move: bool,
    delete: bool,
    drop: bool,
    everything: bool,
    verbose: bool,
    force: bool,
) -> None:
    """List, create, rename or delete branches

    To switch to one, see 'persona switch'.

    \b
    persona branch
    persona branch warmer
    persona branch experiment HEAD~3
    persona branch -m experiment warmer-2
    persona branch -d warmer
    """
    from persona.verbs import branch as verbs

    if move + (delete or drop) > 1:
        raise UsageError("-m and -d cannot be combined", "Give one of them.")
    if names and everything:
        raise UsageError("--all lists branches and takes no NAME", "Leave one of them out.")
    if not names and not move and not delete and not drop:
        branches = verbs.branches(app.repository())
        app.show("branch", branches, lambda console: _list(console, branches))
    elif delete or drop:
        if not names:
            raise UsageError("no branch given", "Name the branch: persona branch -d NAME")
        deleted = verbs.delete_branches(app.repository(), names, force=drop or force, command=app.command)
        app.show("branch", deleted, lambda console: _deleted(console, deleted))
    else:
        _check_count(names, move)
        if move:
            old, new = names if len(names) == 2 else (None, names[0])
            branch = verbs.rename_branch(app.repository(), old, new, force=force, command=app.command)
        else:
            branch = verbs.branch(app.repository(), *names, force=force, command=app.command)
        app.show("branch", branch, lambda console: _one(console, branch))


def _check_count(names: tuple[str, ...], move: bool) -> None:
    if not 1 <= len(names) <= 2:
        form = "persona branch -m [OLD] NEW" if move else "persona branch NAME [REV]"
        raise UsageError(f"too {'few' if not names else 'many'} arguments", f"Usage: {form}")


def _list(console: Console, branches: list[Branch]) -> None:
    rows = table("", "branch", "commit", "subject")
    for branch in branches:
        mark, style = ("*", "[bold green]") if branch.current else ("", "[default]")
        name, subject = escape(branch.name), escape(branch.subject)
        rows.add_row(mark, f"{style}{name}[/]", f"[yellow]{short(branch.commit)}[/]", subject)
    console.print(rows)


def _one(console: Console, branch: Branch) -> None:
    commit = f"[yellow]{short(branch.commit)}[/] {escape(branch.subject)}"
    console.print(f"branch [bold]{escape(branch.name)}[/] at {commit}")


def _deleted(console: Console, deleted: list[Branch]) -> None:
    for branch in deleted:
        console.print(f"Deleted branch {escape(branch.name)} (it was at [yellow]{short(branch.commit)}[/]).")
