"""``persona log``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import when

if TYPE_CHECKING:
    from persona.verbs.log import Logged


@click.command("log")
@click.argument("rev", default="HEAD", type=REV)
@click.option("--oneline", is_flag=True, help="A line per commit.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most N commits.")
@json_option
@click.pass_obj
def command(app: App, rev: str, oneline: bool, limit: int | None) -> None:
    """Show commits, newest first.

    \b
    persona log
    persona log --oneline -n 5 main
    """
    from persona.verbs.log import log

    found = log(app.repository(), rev, limit=limit)

    def render(console: Console) -> None:
        for number, one in enumerate(found):
            if oneline:
                console.print(f"[yellow]{one.commit[:7]}[/]{_names(one)} {escape(one.subject)}{_headline(one)}")
            else:
                _long(console, one, first=number == 0)

    app.show("log", found, render)


def _long(console: Console, one: Logged, *, first: bool) -> None:
    if not first:
        console.print()
    console.print(f"[yellow]commit {one.commit}[/]{_names(one)}")
    console.print(f"Author: {escape(one.author)}")
    console.print(f"Date:   {when(one.time)}")
    console.print(f"\n    {escape(one.subject)}")
    if one.headline:
        console.print(f"    {escape(one.headline)}", style="dim")


def _headline(one: Logged) -> str:
    return f" [dim]{escape(one.headline)}[/]" if one.headline else ""


def _names(one: Logged) -> str:
    names = [f"[green]{escape(name)}[/]" for name in one.names]
    if one.is_head:
        names.insert(0, "[bold cyan]HEAD[/]")
    return f" ({', '.join(names)})" if names else ""
