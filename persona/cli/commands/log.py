"""``persona log``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import ENTRY, NODE, REV
from persona.cli.render import print_lines, styled, when
from persona.cli.tables.commits import counted
from persona.cli.tables.graphlines import draw

if TYPE_CHECKING:
    from persona.evaluate.results import Headlines
    from persona.verbs.log import LogEntry


class _Log(click.Command):
    """Takes ``-3`` for ``-n 3``, as git does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spell out the number, unless it is the value of an option."""
        takes = {word for param in self.params if not getattr(param, "is_flag", True) for word in param.opts}
        pairs = zip(["", *args], args, strict=False)
        given = args.index("--") if "--" in args else len(args)
        spelled = [
            f"-n{one[1:]}" if number < given and before not in takes and re.fullmatch(r"-\d+", one) else one
            for number, (before, one) in enumerate(pairs)
        ]
        return super().parse_args(ctx, spelled)


@click.command("log", cls=_Log)
@click.argument("revs", nargs=-1, type=REV, metavar="[REV]...")
@click.option("--oneline", is_flag=True, help="Print one line per commit.")
@click.option("-p", "--patch", is_flag=True, help="Show what each commit changed in the recipe of its first parent.")
@click.option("--stat", is_flag=True, help="Count what each commit changed in the recipe of its first parent.")
@click.option("--graph", is_flag=True, help="Draw the history beside the commits.")
@click.option("--all", "everything", is_flag=True, help="Start at every branch and tag.")
@click.option("--vector", type=ENTRY, metavar="NAME", help="Only commits that changed this vector or readout.")
@click.option("--node", type=NODE, metavar="ID", help="Only commits that changed this node, or what implements it.")
@click.option("--since", metavar="TIME", help="Only commits since this time: 'yesterday', '2 weeks ago', '2026-11-20'.")
@click.option("--until", metavar="TIME", help="Only commits until this time.")
@click.option("--grep", metavar="REGEX", help="Only commits whose message matches.")
@click.option("--author", metavar="REGEX", help="Only commits whose author matches.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of commits; -3 is short for -n 3."
)
@json_option
@click.pass_obj
def command(
    app: App,
    revs: tuple[str, ...],
    oneline: bool,
    patch: bool,
    stat: bool,
    graph: bool,
    everything: bool,
    vector: str | None,
    node: str | None,
    since: str | None,
    until: str | None,
    grep: str | None,
    author: str | None,
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
    persona log -p -n 3 --grep warmer
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
        grep=grep,
        author=author,
        in_lines=graph,
        measured=app.json,
        patch=patch or stat,
    )

    def render(console: Console) -> None:
        printer = _Printer(oneline, patch, stat, Headlines(repo))
        print_lines(console, printer.with_graph(entries) if graph else printer.plain(entries))

    app.show("log", entries, render)


@dataclass(frozen=True)
class _Printer:
    """Renders commits lazily: evaluation results are looked up per commit, so that the pager starts at once."""

    oneline: bool
    patch: bool
    stat: bool
    headlines: Headlines

    def plain(self, entries: list[LogEntry]) -> Iterator[str]:
        for number, entry in enumerate(entries):
            yield from ("",) if number and not self.oneline else ()
            yield from self.entry(entry)

    def with_graph(self, entries: list[LogEntry]) -> Iterator[str]:
        history = [(entry.commit, entry.nearest) for entry in entries]
        for entry, drawn in zip(entries, draw(history), strict=True):
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.above)
            first, *rest = [*self.entry(entry), *([] if self.oneline else [""])]
            yield f"[dim]{escape(drawn.row)}[/] {first}"
            rest = rest if drawn.beside or self.oneline else rest[:-1]
            yield from (f"[dim]{escape(row)}[/]" for row in drawn.below)
            yield from (f"[dim]{escape(drawn.beside or ' ')}[/] {line}".rstrip() for line in rest)

    def entry(self, entry: LogEntry) -> Iterator[str]:
        yield from (_line(entry),) if self.oneline else self.long(entry)
        if not entry.changes:
            return
        yield from ("",) if not self.oneline else ()
        if self.stat:
            yield f" {escape(counted(entry.changes))}"
        if self.patch:
            yield from (f" {styled(change)}" for change in entry.changes)

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
