"""``persona status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.render import STYLES, changed, count, short, table
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.store.lists import ExternalFile
    from persona.verbs.status import Status

MOST = 12
"""Number of vectors to list before the rest is only counted, so that the status fits on one screen."""


LETTERS = {"added": "A", "readout added": "A", "removed": "D", "readout removed": "D"}
"""What ``-s`` puts before a change; M before others."""


@click.command("status")
@click.option("-s", "--short", "brief", is_flag=True, help="Print one line per edit, and nothing if there are none.")
@json_option
@click.pass_obj
def command(app: App, brief: bool) -> None:
    """Show the current branch, edits and next step

    With -s, A is an added vector or readout, D a removed one, M another edit, U a conflict or other text that cannot be read.

    \b
    persona status
    persona status -s
    """
    from persona.verbs.status import status

    now = status(app.repository())
    app.show("status", now, lambda console: (_brief if brief else _render)(console, now))


def _brief(console: Console, now: Status) -> None:
    if now.problem:
        console.print(f"[red]U[/] {escape(now.problem)}")
    elif now.edited and not now.changes:
        console.print("M persona.toml (comments or spacing only)")
    for change in now.changes:
        what = change.name if change.kind in LETTERS else change.text
        console.print(f"{LETTERS.get(change.kind, 'M')} {escape(what)}", style=STYLES.get(change.kind, ""))


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
    instead = " (or discard all edits: persona restore)" if now.next.startswith("fix ") else ""
    console.print(f"\nNext: {escape(now.next)}{instead}", style="dim")


def _outside(console: Console, files: tuple[ExternalFile, ...]) -> None:
    """Print the files that a repository needs but does not store."""
    if not files:
        return
    folders = sorted({str(file.path.parent) for file in files})
    console.print(f"Not self-contained: {count(len(files), 'file')} of the base in {', '.join(map(escape, folders))}")
    for file in [file for file in files if file.wrong][:MOST]:
        console.print(f"[red]{escape(str(file.path))} {escape(file.wrong)}[/]")
