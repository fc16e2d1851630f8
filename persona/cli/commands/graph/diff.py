"""``persona graph diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.tables.nodes import SIGNS, WORDS

if TYPE_CHECKING:
    from persona.verbs.graph.diff import GraphDiff


@click.command("diff")
@click.argument("before", required=False, metavar="[A", type=REV)
@click.argument("after", required=False, metavar="[B]]", type=REV)
@json_option
@click.pass_obj
def command(app: App, before: str | None, after: str | None) -> None:
    """Show how nodes changed between two revisions, and which vectors that makes stale.

    Without B up to HEAD; without A, too, from what each stale vector implements to what its node says now.

    \b
    persona graph diff
    persona graph diff HEAD~3
    persona graph diff v1 main
    """
    from persona.verbs.graph.diff import graph_diff

    found = graph_diff(app.repository(), before, after)
    app.show("graph diff", found, lambda console: _diff(console, found))


def _diff(console: Console, found: GraphDiff) -> None:
    if not found.nodes:
        console.print(f"No differences from {escape(found.before)} to {escape(found.after)}")
        return
    for one in found.nodes:
        sign, style = SIGNS[one.kind]
        stale = f"  [yellow]stale: {escape(', '.join(one.stale))}[/]" if one.stale else ""
        word = WORDS.get(one.kind, one.kind)
        console.print(f"[bold]{sign} {escape(one.name)}[/]  [{style}]{word}[/]{stale}")
        for line in one.patch:
            console.print(Text(f"    {line}", style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))
