"""``persona graph import``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.output import note
from persona.cli.render import count
from persona.cli.sources import place_of, server_options
from persona.cli.tables.commits import recorded
from persona.cli.tables.nodes import MOST, SIGNS, WORDS

if TYPE_CHECKING:
    from persona.verbs.graph.import_ import GraphImportResult


@click.command("import")
@click.argument("place", metavar="PATH|URL")
@click.option("--keep-missing", is_flag=True, help="Keep nodes that the source no longer has.")
@server_options
@click.option("-m", "--message", metavar="MSG", help="Commit message.")
@json_option
@click.pass_obj
def command(
    app: App, place: str, keep_missing: bool, tools: tuple[str, ...], timeout: float, message: str | None
) -> None:
    """Import a memory graph and commit it

    Reads every node of a folder of Markdown or text files, of a JSONL export, or of an MCP server.

    \b
    persona graph import notes/
    persona graph import export.jsonl
    persona graph import http://localhost:7777 --keep-missing
    """
    from persona.verbs.graph.import_ import graph_import

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


def _imported(console: Console, done: GraphImportResult) -> None:
    if done.recorded is None:
        console.print(f"The graph of {count(done.nodes, 'node')} has not changed: nothing to commit")
        return
    recorded(console, done.recorded)
    for change in done.changes[:MOST]:
        sign, style = SIGNS[change.kind]
        word = WORDS.get(change.kind, "")
        console.print(f" [{style}]{sign} {escape(change.name)}[/]{f'  {word}' if word else ''}")
    if len(done.changes) > MOST:
        console.print(f" … and {len(done.changes) - MOST} more: persona graph diff HEAD~1")
    if done.kept:
        console.print(f" kept, although {escape(done.place)} no longer has them: {escape(_few(done.kept))}")
    if done.stale:
        console.print(f" [yellow]stale:[/] {escape(_few(done.stale))} (persona graph status)")


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:MOST]) + (f" and {len(listed) - MOST} more" if len(listed) > MOST else "")
