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
    """Show how nodes changed between two revisions

    Also lists the vectors that the changes make stale. B is HEAD by default. Without A and B, compares the text that each
    stale vector implements with the current text of its node.

    \b
    persona graph diff
    persona graph diff HEAD~3
    persona graph diff v1 main
    """
    from persona.verbs.graph.diff import graph_diff

    diff = graph_diff(app.repository(), before, after)
    app.show("graph diff", diff, lambda console: _diff(console, diff))


def _diff(console: Console, diff: GraphDiff) -> None:
    if not diff.nodes:
        console.print(f"No differences from {escape(diff.before)} to {escape(diff.after)}")
        return
    for node in diff.nodes:
        sign, style = SIGNS[node.kind]
        stale = f"  [yellow]stale: {escape(', '.join(node.stale))}[/]" if node.stale else ""
        word = WORDS.get(node.kind, node.kind)
        console.print(f"[bold]{sign} {escape(node.name)}[/]  [{style}]{word}[/]{stale}")
        for line in node.patch:
            console.print(Text(f"    {line}", style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")))
