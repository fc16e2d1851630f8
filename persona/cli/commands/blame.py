"""``persona blame``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import note
from persona.cli.render import short, table
from persona.cli.running import measuring_options, suite_option
from persona.cli.tables.scores import LEGEND, called, interval_of, moved, number
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.evaluate.options import MeasureOptions
    from persona.verbs.blame import BlameResult, MeasureBlame


@click.command("blame")
@click.argument("rev", required=False, type=REV)
@suite_option
@click.option("--history", is_flag=True, help="Blame commits (first-parent history) instead of vectors.")
@click.option(
    "-n", "most", type=click.IntRange(min=1), metavar="N", help="With --history, compare only the N newest commits."
)
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App, /, rev: str | None, suite: str | None, history: bool, most: int | None, options: MeasureOptions
) -> None:
    """Show which vector helps or hurts a measure

    Leaves out each vector in turn. For each measure, lists the vectors from most harmful to most helpful, with the change
    in the measure that each one causes.

    \b
    persona blame
    persona blame HEAD~3 --suite listening
    persona blame --suite listening --history -n 10
    """
    from persona.errors import UsageError
    from persona.verbs.blame import blame

    if most is not None and not history:
        raise UsageError("-n needs --history", "Add --history, or remove -n.")
    done = blame(
        app.repository(), rev, suite=suite, history=history, most=most, cwd=app.folder, command=app.command,
        progress=app.progress(), options=options,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    app.show("blame", done, lambda console: _render(console, done))


def _render(console: Console, done: BlameResult) -> None:
    for verdict in done.verdicts:
        direction = f", {verdict.better} is better" if verdict.better else ""
        value = f"{number(verdict.value)} {escape(verdict.unit)}"
        console.print(f"[bold]{called(verdict.measure, verdict.name)}[/]  {value}{direction}")
        console.print(_vectors(verdict) if verdict.vectors else _commits(verdict))
        console.print()
    console.print(f"[dim]{LEGEND}[/]")


def _vectors(verdict: MeasureBlame) -> Any:
    rows = table("  vector", "α", "effect", "95 % interval", "without it", right={"α", "without it"})
    for row in verdict.vectors:
        name, alpha = f"  {escape(row.vector)}", escape(alpha_text(row.alpha))
        rows.add_row(name, alpha, moved(row.effect), interval_of(row.effect), number(row.without))
    return rows


def _commits(verdict: MeasureBlame) -> Any:
    rows = table("  commit", "effect", "95 % interval", "value", "", right={"value"})
    for row in verdict.commits:
        commit = f"  [yellow]{short(row.commit)}[/]"
        rows.add_row(commit, moved(row.effect), interval_of(row.effect), number(row.value), escape(row.subject))
    return rows
