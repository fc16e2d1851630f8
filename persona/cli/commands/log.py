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
@click.option("--oneline", is_flag=True, help="A line per commit.")
@click.option("--graph", is_flag=True, help="Draw the lines of history beside the commits.")
@click.option("--all", "everything", is_flag=True, help="Begin at every branch and tag.")
@click.option("--vector", type=ENTRY, metavar="NAME", help="Only commits that changed this vector or readout.")
@click.option("--node", type=NODE, metavar="ID", help="Only commits that changed this node, or what implements it.")
@click.option("--since", metavar="TIME", help="Only commits from then on: 'yesterday', '2 weeks ago', '2026-11-20'.")
@click.option("--until", metavar="TIME", help="Only commits up to then.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most N commits.")
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
    """Show commits, newest first. A..B is what B has and A has not.

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
    found = log(
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
        told = _Told(oneline, Headlines(repo))
        print_lines(console, told.drawn(found) if graph else told.plain(found))

    app.show("log", found, render)


@dataclass(frozen=True)
class _Told:
    """How commits are told. What was measured is looked up line by line: who quits the pager has not waited for the rest."""

    oneline: bool
    headlines: Headlines

    def plain(self, found: list[LogEntry]) -> Iterator[str]:
        for number, one in enumerate(found):
            if self.oneline:
                yield _line(one)
            else:
                yield from ("",) if number else ()
                yield from self.long(one)

    def drawn(self, found: list[LogEntry]) -> Iterator[str]:
        shown = {one.commit for one in found}
        history = [(one.commit, tuple(p for p in one.nearest if p in shown)) for one in found]
        for one, drawn in zip(found, draw(history), strict=True):
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.above)
            first, *rest = [_line(one)] if self.oneline else [*self.long(one), ""]
            yield f"[dim]{escape(drawn.row)}[/] {first}"
            rest = rest if drawn.beside or self.oneline else rest[:-1]
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.below)
            yield from (f"[dim]{escape(drawn.beside or ' ')}[/] {line}".rstrip() for line in rest)

    def long(self, one: LogEntry) -> Iterator[str]:
        yield f"[yellow]commit {one.commit}[/]{_names(one)}"
        if len(one.parents) > 1:
            yield f"Merge:  {' '.join(parent[:7] for parent in one.parents)}"
        yield f"Author: {escape(one.author)}"
        yield f"Date:   {when(one.time)}"
        yield ""
        yield f"    {escape(one.subject)}"
        if one.headline:
            yield f"    [dim]{escape(one.headline)}[/]"
        for reading in self.headlines.of(one.recipe):
            yield f"    [dim]{escape(reading.suite)}: {escape(reading.text)}[/]"


def _line(one: LogEntry) -> str:
    return f"[yellow]{one.commit[:7]}[/]{_names(one)} {escape(one.subject)}{_headline(one)}"


def _headline(one: LogEntry) -> str:
    return f" [dim]{escape(one.headline)}[/]" if one.headline else ""


def _names(one: LogEntry) -> str:
    names = [f"[green]{escape(name)}[/]" for name in one.names]
    if one.is_head:
        names.insert(0, "[bold cyan]HEAD[/]")
    return f" ({', '.join(names)})" if names else ""
