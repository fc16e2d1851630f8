"""``persona status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import changed, count, short, table
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.store.lists import ExternalFile
    from persona.verbs.status import Status

MOST = 12
"""Number of vectors to list before the rest is only counted, so that the status fits on one screen."""


@click.command("status")
@json_option
@click.pass_obj
def command(app: App) -> None:
    """Show the current branch, edits and next step

    \b
    persona status
    """
    from persona.verbs.status import status

    now = status(app.repository())
    app.show("status", now, lambda console: _render(console, now))


def _render(console: Console, now: Status) -> None:
    where = f"On branch [bold]{escape(now.branch)}[/]" if now.branch else "[bold red]HEAD detached[/]"
    console.print(f"{where} at [yellow]{short(now.commit)}[/] {escape(now.subject)}")
    console.print(f"Base {escape(now.recipe.base_name)} ({now.recipe.base[:12]}), method {now.recipe.method}")
    if now.merging:
        merged = escape(", ".join(now.merging))
        console.print(f"[red]Merging {merged}[/], not finished (to abort: persona merge --abort)")
    _outside(console, now.outside)
    if now.recipe.vectors:
        console.print()
        rows = table("vector", "α", "id", "node", right=("α",))
        for entry in now.recipe.vectors[:MOST]:
            rows.add_row(escape(entry.name), escape(alpha_text(entry.alpha)), entry.id[:12], escape(entry.node or ""))
        console.print(rows)
        if len(now.recipe.vectors) > MOST:
            console.print(f"… and {len(now.recipe.vectors) - MOST} more: persona vectors")
    if now.readouts:
        from persona.cli.tables import readouts

        console.print()
        readouts.listed(console, now.readouts)
    if now.problem:
        console.print(f"\n[red]error:[/] {escape(now.problem)}")
    elif now.edited:
        console.print(
            "\npersona.toml has edits:" if now.changes else "\npersona.toml has edits (comments or spacing only)"
        )
        changed(console, now.changes, "  ")
    if now.stale:
        console.print(f"\n[yellow]Stale:[/] {escape(', '.join(now.stale))} (persona graph status)")
    first = "fix persona.toml, or go back to the last commit: " if now.next == "persona restore" else ""
    console.print(f"\nNext: {first}{escape(now.next)}", style="dim")


def _outside(console: Console, files: tuple[ExternalFile, ...]) -> None:
    """Print the files that a repository needs but does not store."""
    if not files:
        return
    folders = sorted({str(file.path.parent) for file in files})
    console.print(f"Not self-contained: {count(len(files), 'file')} of the base in {', '.join(map(escape, folders))}")
    for file in [file for file in files if file.wrong][:MOST]:
        console.print(f"[red]{escape(str(file.path))} {escape(file.wrong)}[/]")
