"""``persona log``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import ENTRY, NODE, REV
from persona.cli.render import print_lines, when
from persona.cli.tables.graphlines import draw

if TYPE_CHECKING:
    from persona.evaluate.results import Headlines
    from persona.verbs.log import LogEntry


@click.command("log")
@click.argument("revs", nargs=-1, type=REV, metavar="[REV]...")
@click.option("--oneline", is_flag=True, help="Print one line per commit.")
@click.option("--graph", is_flag=True, help="Draw the history beside the commits.")
@click.option("--all", "everything", is_flag=True, help="Start at every branch and tag.")
@click.option("--vector", type=ENTRY, metavar="NAME", help="Only commits that changed this vector or readout.")
@click.option("--node", type=NODE, metavar="ID", help="Only commits that changed this node, or what implements it.")
@click.option("--since", metavar="TIME", help="Only commits since this time: 'yesterday', '2 weeks ago', '2026-11-20'.")
@click.option("--until", metavar="TIME", help="Only commits until this time.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of commits.")
@json_option
@click.pass_obj
def command(
    app: App,
    revs: tuple[str, ...],
    oneline: bool,
    graph: bool,
    everything: bool,
    vector: str | None,
    node: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
) -> None:
    """Show commits, newest first

    A..B means the commits of B that A does not have, A...B those that only one of them has.

    \b
    persona log
    persona log --oneline -n 5 main
    persona log --graph --oneline --all
    persona log --vector listening --since "2 weeks ago"
    persona log main..voice
    """
    from persona.evaluate.results import Headlines
    from persona.verbs.log import log

    repo = app.repository()
    entries = log(
        repo,
        revs or "HEAD",
        limit=limit,
        everything=everything,
        vector=vector,
        node=node,
        since=since,
        until=until,
        in_lines=graph,
        measured=app.json,
    )

    def render(console: Console) -> None:
        printer = _Printer(oneline, Headlines(repo))
        print_lines(console, printer.with_graph(entries) if graph else printer.plain(entries))

    app.show("log", entries, render)


@dataclass(frozen=True)
class _Printer:
    """Renders commits lazily: evaluation results are looked up per commit, so that the pager starts at once."""

    oneline: bool
    headlines: Headlines

    def plain(self, entries: list[LogEntry]) -> Iterator[str]:
        for number, entry in enumerate(entries):
            if self.oneline:
                yield _line(entry)
            else:
                yield from ("",) if number else ()
                yield from self.long(entry)

    def with_graph(self, entries: list[LogEntry]) -> Iterator[str]:
        shown = {entry.commit for entry in entries}
        history = [(entry.commit, tuple(p for p in entry.nearest if p in shown)) for entry in entries]
        for entry, drawn in zip(entries, draw(history), strict=True):
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.above)
            first, *rest = [_line(entry)] if self.oneline else [*self.long(entry), ""]
            yield f"[dim]{escape(drawn.row)}[/] {first}"
            rest = rest if drawn.beside or self.oneline else rest[:-1]
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.below)
            yield from (f"[dim]{escape(drawn.beside or ' ')}[/] {line}".rstrip() for line in rest)

    def long(self, entry: LogEntry) -> Iterator[str]:
        yield f"[yellow]commit {entry.commit}[/]{_names(entry)}"
        if len(entry.parents) > 1:
            yield f"Merge:  {' '.join(parent[:7] for parent in entry.parents)}"
        yield f"Author: {escape(entry.author)}"
        yield f"Date:   {when(entry.time)}"
        yield ""
        yield f"    {escape(entry.subject)}"
        if entry.headline:
            yield f"    [dim]{escape(entry.headline)}[/]"
        for reading in self.headlines.of(entry.recipe):
            yield f"    [dim]{escape(reading.source)}: {escape(reading.text)}[/]"


def _line(entry: LogEntry) -> str:
    headline = f" [dim]{escape(entry.headline)}[/]" if entry.headline else ""
    return f"[yellow]{entry.commit[:7]}[/]{_names(entry)} {escape(entry.subject)}{headline}"


def _names(entry: LogEntry) -> str:
    names = [f"[green]{escape(name)}[/]" for name in entry.names]
    if entry.is_head:
        names.insert(0, "[bold cyan]HEAD[/]")
    return f" ({', '.join(names)})" if names else ""
