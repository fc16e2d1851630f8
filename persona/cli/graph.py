"""``persona graph``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona.cli.app import App, json_option, note
from persona.cli.commit import recorded
from persona.cli.complete import NODE, REV, VECTOR
from persona.cli.render import count, short, table
from persona.cli.sources import place_of, server_options

if TYPE_CHECKING:
    from persona.verbs.graph_diff import GraphDiff
    from persona.verbs.graph_import import GraphImported
    from persona.verbs.graph_show import ShownGraph, ShownNode
    from persona.verbs.graph_status import GraphStatus

MOST = 12
"""Nodes without a vector that are listed before the rest is only counted."""

GOOD = "up to date"
SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "scored": ("·", "dim")}
WORDS = {"changed": "text changed", "scored": "new scores"}


@click.group("graph")
def command() -> None:
    """Keep the memory graph, whose nodes specify behaviours, beside the vectors that implement them.

    \b
    persona graph import notes/                     take in the nodes as they are now
    persona graph status                            what has a vector, and what is stale
    persona graph link rushing-pattern suggesting   this vector implements that node
    """


@command.command("import")
@click.argument("place", metavar="PATH|URL")
@click.option("--keep-missing", is_flag=True, help="Keep nodes that the place no longer has.")
@server_options
@click.option("-m", "--message", metavar="MSG", help="What this commit is for.")
@json_option
@click.pass_obj
def import_(
    app: App, place: str, keep_missing: bool, tools: tuple[str, ...], timeout: float, message: str | None
) -> None:
    """Take in every node of a folder of Markdown or text, a JSONL export, or an MCP server, and commit that.

    \b
    persona graph import notes/
    persona graph import export.jsonl
    persona graph import http://localhost:7777 --keep-missing
    """
    from persona.verbs.graph_import import graph_import

    source = place_of(app, place)
    repo = app.repository()
    done = graph_import(
        repo,
        source,
        keep_missing=keep_missing,
        tools=tools,
        patience=timeout,
        message=message,
        author=app.author(repo),
        command=app.command,
    )
    app.show("graph import", done, lambda console: _imported(console, done))
    if not app.json:
        for text in done.notes:
            note(text)


@command.command("link")
@click.argument("node", metavar="NODE[#SECTION]", type=NODE)
@click.argument("vector", type=VECTOR)
@click.option("-m", "--message", metavar="MSG", help="What this commit is for.")
@json_option
@click.pass_obj
def link(app: App, node: str, vector: str, message: str | None) -> None:
    """Say that a vector implements a node, as its text is now; and commit that.

    \b
    persona graph link rushing-pattern suggesting
    persona graph link core-personality#voice voice
    """
    from persona.verbs.graph_link import graph_link

    repo = app.repository()
    done = graph_link(repo, node, vector, message=message, author=app.author(repo), command=app.command)
    app.show("graph link", done, lambda console: recorded(console, done))


@command.command("unlink")
@click.argument("vector", type=VECTOR)
@click.option("-m", "--message", metavar="MSG", help="What this commit is for.")
@json_option
@click.pass_obj
def unlink(app: App, vector: str, message: str | None) -> None:
    """Take the node away from a vector, and commit that.

    \b
    persona graph unlink suggesting
    """
    from persona.verbs.graph_unlink import graph_unlink

    repo = app.repository()
    done = graph_unlink(repo, vector, message=message, author=app.author(repo), command=app.command)
    app.show("graph unlink", done, lambda console: recorded(console, done))


@command.command("status")
@click.argument("rev", required=False, type=REV)
@click.option("--all", "everything", is_flag=True, help="List every node that has no vector.")
@json_option
@click.pass_obj
def status(app: App, rev: str | None, everything: bool) -> None:
    """Show which nodes have a vector, which vectors are stale, and what has nothing to do with the other.

    A vector is stale when its node, or the section of it that it implements, says something else than it did when the
    vector was committed.

    \b
    persona graph status
    persona graph status HEAD~3
    """
    from persona.verbs.graph_status import graph_status

    now = graph_status(app.repository(), rev)
    app.show("graph status", now, lambda console: _status(console, now, everything))


@command.command("diff")
@click.argument("before", required=False, metavar="[A", type=REV)
@click.argument("after", required=False, metavar="[B]]", type=REV)
@json_option
@click.pass_obj
def diff(app: App, before: str | None, after: str | None) -> None:
    """Show how nodes changed between two revisions, and which vectors that makes stale.

    Without B up to HEAD; without A, too, from what each stale vector implements to what its node says now.

    \b
    persona graph diff
    persona graph diff HEAD~3
    persona graph diff v1 main
    """
    from persona.verbs.graph_diff import graph_diff

    found = graph_diff(app.repository(), before, after)
    app.show("graph diff", found, lambda console: _diff(console, found))


@command.command("show")
@click.argument("node", required=False, metavar="[NODE[#SECTION]]", type=NODE)
@click.option("--at", "rev", type=REV, metavar="REV", help="At a revision; as things stand otherwise.")
@json_option
@click.pass_obj
def show(app: App, node: str | None, rev: str | None) -> None:
    """Show the nodes and their links, or the text of one node and what implements it.

    \b
    persona graph show
    persona graph show core-personality#voice --at HEAD~3
    """
    from persona.verbs.graph_show import ShownNode, graph_show

    shown = graph_show(app.repository(), node, rev)

    def render(console: Console) -> None:
        if isinstance(shown, ShownNode):
            _node(console, shown)
        else:
            _nodes(console, shown)

    app.show("graph show", shown, render)


def _imported(console: Console, done: GraphImported) -> None:
    if done.recorded is None:
        console.print(f"The graph is as it was imported last: {count(done.nodes, 'node')}; nothing new was recorded")
        return
    recorded(console, done.recorded)
    for one in done.changes[:MOST]:
        sign, style = SIGNS[one.kind]
        word = WORDS.get(one.kind, "")
        console.print(f" [{style}]{sign} {escape(one.name)}[/]{f'  {word}' if word else ''}")
    if len(done.changes) > MOST:
        console.print(f" … and {len(done.changes) - MOST} more: persona graph diff HEAD~1")
    if done.kept:
        console.print(f" kept, though {escape(done.place)} has them no more: {escape(_few(done.kept))}")
    if done.stale:
        console.print(f" [yellow]stale:[/] {escape(_few(done.stale))} (persona graph status)")


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
        console.print(f"… and {len(now.uncovered) - MOST} nodes more without a vector: persona graph status --all")
    if worst := next((one for one in now.links if one.state == "stale"), None):
        console.print("\nWhat changed since:        persona graph diff")
        console.print(f"Where it still does that: persona graph link {escape(f'{worst.reference} {worst.vector}')}")
    console.print(f"\nNext: {escape(now.next)}", style="dim")


def _rows(now: GraphStatus, everything: bool) -> object:
    rows = table("node", "vectors", "state")
    groups: dict[tuple[str, str], list[str]] = {}
    for one in now.links:
        groups.setdefault((one.reference, one.state), []).append(one.vector)
    for (reference, state), vectors in groups.items():
        rows.add_row(escape(reference), escape(", ".join(vectors)), _coloured(state))
    for name in now.uncovered if everything else now.uncovered[:MOST]:
        rows.add_row(escape(name), "", "[dim]no vector[/]")
    for name in now.loose:
        rows.add_row("", escape(name), "[dim]no node[/]")
    return rows


def _coloured(state: str) -> str:
    return f"[{'green' if state == GOOD else 'yellow'}]{state}[/]"


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


def _nodes(console: Console, shown: ShownGraph) -> None:
    console.print(f"Graph at [yellow]{short(shown.commit)}[/], from {escape(shown.source.place)}")
    known = {one.name for one in shown.nodes}
    lines = []
    for one in shown.nodes:
        vectors = f"  [green]{escape(', '.join(one.vectors))}[/]" if one.vectors else ""
        lines.append(f"[bold]{escape(one.name)}[/]{vectors}")
        lines += [f"[dim]    → {escape(to)}{'' if to in known else '  not in the graph'}[/]" for to in one.links]
    console.print("\n".join(lines))  # at once: a call for each of thousands takes a second


def _node(console: Console, shown: ShownNode) -> None:
    console.print(f"[yellow]node {shown.id}[/] [bold]{escape(shown.name)}[/]")
    for one in shown.vectors:
        console.print(f"Vector: {escape(one.vector)} implements {escape(one.reference)}, {_coloured(one.state)}")
    for label, names in (("Links:  ", shown.links), ("Linked: ", shown.linked_from)):
        if names:
            console.print(f"{label}{escape(', '.join(names))}")
    if shown.tags:
        tags = (name if score is None else f"{name}:{score:g}" for name, score in shown.tags.items())
        console.print(f"Tags:   {escape(' '.join(tags))}")
    console.print()
    for line in shown.text.split("\n"):
        console.print(Text(f"    {line}" if line else ""))


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:MOST]) + (f" and {len(listed) - MOST} more" if len(listed) > MOST else "")
