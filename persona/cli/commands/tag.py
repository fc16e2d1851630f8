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
@click.option("-l", "--list", "listing", is_flag=True, help="List tags; with a pattern, such as 'v1.*', only those.")
@click.option("-d", "--delete", is_flag=True, help="Delete tags.")
@click.option("-f", "--force", is_flag=True, help="Move an existing tag.")
@json_option
@click.pass_obj
def command(app: App, names: tuple[str, ...], listing: bool, delete: bool, force: bool) -> None:
    """List, create or delete tags

    A tag names a commit for good, such as one that was deployed or used in a paper.

    \b
    persona tag
    persona tag -l 'v1.*'
    persona tag v1.2
    persona tag before-merge HEAD~1
    persona tag -d v1.2
    """
    from persona.verbs import tag as verbs

    if listing and (delete or force or len(names) > 1):
        raise UsageError("--list takes at most one pattern, and no other option", "Usage: persona tag -l [PATTERN]")
    if delete:
        if not names:
            raise UsageError("no tag given", "Name the tag: persona tag -d NAME")
        deleted = verbs.delete_tags(app.repository(), names, command=app.command)
        app.show("tag", deleted, lambda console: _deleted(console, deleted))
    elif listing or not names:
        pattern = names[0] if names else None
        tags = verbs.tags(app.repository(), pattern)
        app.show("tag", tags, lambda console: _list(console, tags, pattern))
    elif len(names) > 2:
        raise UsageError("too many arguments", "Usage: persona tag NAME [REV]")
    else:
        tag = verbs.tag(app.repository(), *names, force=force, command=app.command)
        app.show("tag", tag, lambda console: _one(console, tag))


def _list(console: Console, tags: list[Tag], pattern: str | None) -> None:
    if not tags:
        console.print(
            "No tags yet: persona tag NAME [REV]" if pattern is None else f"No tag matches {escape(pattern)}."
        )
        return
    rows = table("tag", "commit", "subject")
    for tag in tags:
        rows.add_row(f"[bold]{escape(tag.name)}[/]", f"[yellow]{short(tag.commit)}[/]", escape(tag.subject))
    console.print(rows)


def _one(console: Console, tag: Tag) -> None:
    console.print(f"tag [bold]{escape(tag.name)}[/] at [yellow]{short(tag.commit)}[/] {escape(tag.subject)}")


def _deleted(console: Console, deleted: list[Tag]) -> None:
    for tag in deleted:
        console.print(f"Deleted tag {escape(tag.name)} (it was at [yellow]{short(tag.commit)}[/]).")
