"""``persona tag``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import short, table
from persona.errors import UsageError

if TYPE_CHECKING:
    from persona.verbs.tag import Tag


@click.command("tag")
@click.argument("names", nargs=-1, type=REV, metavar="[NAME [REV]]")
@click.option("-d", "--delete", is_flag=True, help="Delete tags.")
@click.option("-f", "--force", is_flag=True, help="Move a tag that is there already.")
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], delete: bool, force: bool) -> None:
    """List tags, or name a commit for good: what was deployed, what a paper used.

    \b
    persona tag
    persona tag v1.2
    persona tag before-merge HEAD~1
    persona tag -d v1.2
    """
    from persona.verbs import tag as verbs

    if delete:
        if not names:
            raise UsageError("which tag shall go?", "Name it: persona tag -d NAME")
        gone = verbs.delete_tags(app.repository(), names, command=app.command)
        app.show("tag", gone, lambda console: _deleted(console, gone))
    elif not names:
        found = verbs.tags(app.repository())
        app.show("tag", found, lambda console: _list(console, found))
    elif len(names) > 2:
        raise UsageError(f"{len(names)} names are too many", "Write it as: persona tag NAME [REV]")
    else:
        one = verbs.tag(app.repository(), *names, force=force, command=app.command)
        app.show("tag", one, lambda console: _one(console, one))


def _list(console: Console, found: list[Tag]) -> None:
    if not found:
        console.print("No tags yet: persona tag NAME [REV]")
        return
    rows = table("tag", "commit", "subject")
    for one in found:
        rows.add_row(f"[bold]{escape(one.name)}[/]", f"[yellow]{short(one.commit)}[/]", escape(one.subject))
    console.print(rows)


def _one(console: Console, one: Tag) -> None:
    console.print(f"tag [bold]{escape(one.name)}[/] is [yellow]{short(one.commit)}[/] {escape(one.subject)}")


def _deleted(console: Console, gone: list[Tag]) -> None:
    for one in gone:
        console.print(f"Deleted tag {escape(one.name)} (it was [yellow]{short(one.commit)}[/]).")
