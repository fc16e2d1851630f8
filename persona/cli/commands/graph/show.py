"""``persona graph show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.app import App, json_option
from persona.cli.complete import NODE, REV
from persona.cli.render import short
from persona.cli.tables.nodes import coloured

if TYPE_CHECKING:
    from persona.verbs.graph.show import ShownGraph, ShownNode


@click.command("show")
@click.argument("node", required=False, metavar="[NODE[#SECTION]]", type=NODE)
@click.option("--at", "rev", type=REV, metavar="REV", help="Revision to show, instead of the current state.")
@json_option
@click.pass_obj
def command(app: App, node: str | None, rev: str | None) -> None:
    """Show the nodes of the graph, or one of them

    For one node, prints its text, its links and the vectors that implement it.

    \b
    persona graph show
    persona graph show core-personality#voice --at HEAD~3
    """
    from persona.verbs.graph.show import ShownNode, graph_show

    shown = graph_show(app.repository(), node, rev)

    def render(console: Console) -> None:
        if isinstance(shown, ShownNode):
            _node(console, shown)
        else:
            _nodes(console, shown)

    app.show("graph show", shown, render)


def _nodes(console: Console, shown: ShownGraph) -> None:
    console.print(f"Graph at [yellow]{short(shown.commit)}[/], from {escape(shown.source.place)}")
    names = {node.name for node in shown.nodes}
    lines = []
    for node in shown.nodes:
        vectors = f"  [green]{escape(', '.join(node.vectors))}[/]" if node.vectors else ""
        lines.append(f"[bold]{escape(node.name)}[/]{vectors}")
        lines += [f"[dim]    → {escape(to)}{'' if to in names else '  not in the graph'}[/]" for to in node.links]
    console.print("\n".join(lines))  # one call: thousands of calls would take a second


def _node(console: Console, shown: ShownNode) -> None:
    console.print(f"[yellow]node {shown.id}[/] [bold]{escape(shown.name)}[/]")
    for link in shown.vectors:
        console.print(f"Vector:      {escape(link.vector)} implements {escape(link.reference)}, {coloured(link.state)}")
    for label, names in (("Links to:    ", shown.links), ("Linked from: ", shown.linked_from)):
        if names:
            console.print(f"{label}{escape(', '.join(names))}")
    if shown.tags:
        tags = (name if score is None else f"{name}:{score:g}" for name, score in shown.tags.items())
        console.print(f"Tags:        {escape(' '.join(tags))}")
    console.print()
    for line in shown.text.split("\n"):
        console.print(Text(f"    {line}" if line else ""))
