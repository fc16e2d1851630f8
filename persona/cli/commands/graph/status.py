"""``persona graph status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.render import count, short, table
from persona.cli.tables.nodes import MOST, coloured

if TYPE_CHECKING:
    from persona.verbs.graph.status import GraphStatus


@click.command("status")
@click.argument("rev", required=False, type=REV)
@click.option("--all", "everything", is_flag=True, help="List all nodes without a vector.")
@json_option
@click.pass_obj
def command(app: App, rev: str | None, everything: bool) -> None:
    """Show which nodes have a vector, and what is stale

    A vector is stale when the text of its node, or of the section that it implements, has changed since the vector was
    committed.

    \b
    persona graph status
    persona graph status HEAD~3
    """
    from persona.verbs.graph.status import graph_status

    now = graph_status(app.repository(), rev)
    app.show("graph status", now, lambda console: _status(console, now, everything))


def _status(console: Console, now: GraphStatus, everything: bool) -> None:
    if now.source is None:
        console.print(f"No memory graph at [yellow]{short(now.commit)}[/]")
    else:
        where = escape(f"{count(now.nodes, 'node')} from {now.source.place}")
        console.print(f"Graph at [yellow]{short(now.commit)}[/]: {where}")
    if now.links or now.uncovered or now.loose:
        console.print()
        console.print(_rows(now, everything))
    if len(now.uncovered) > MOST and not everything:
        console.print(f"… and {len(now.uncovered) - MOST} more nodes without a vector: persona graph status --all")
    if worst := next((link for link in now.links if link.state == "stale"), None):
        console.print("\nTo see what changed:                 persona graph diff")
        console.print(
            f"If the vector still implements that: persona graph link {escape(f'{worst.reference} {worst.vector}')}"
        )
    console.print(f"\nNext: {escape(now.next)}", style="dim")


def _rows(now: GraphStatus, everything: bool) -> object:
    rows = table("node", "vectors", "state")
    groups: dict[tuple[str, str], list[str]] = {}
    for link in now.links:
        groups.setdefault((link.reference, link.state), []).append(link.vector)
    for (reference, state), vectors in groups.items():
        rows.add_row(escape(reference), escape(", ".join(vectors)), coloured(state))
    for name in now.uncovered if everything else now.uncovered[:MOST]:
        rows.add_row(escape(name), "", "[dim]no vector[/]")
    for name in now.loose:
        rows.add_row("", escape(name), "[dim]no node[/]")
    return rows
