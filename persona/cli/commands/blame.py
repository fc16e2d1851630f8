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
from persona.cli.tables.scores import LEGEND, called, interval, moved, number
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.evaluate.options import MeasureOptions
    from persona.verbs.blame import BlameResult, MeasureBlame


@click.command("blame")
@click.argument("rev", required=False, type=REV)
@suite_option
@click.option("--history", is_flag=True, help="Which commit did it, along first parents, instead of which vector.")
@click.option("-n", "most", type=click.IntRange(min=1), metavar="N", help="With --history: the N newest commits.")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App, /, rev: str | None, suite: str | None, history: bool, most: int | None, options: MeasureOptions
) -> None:
    """Find out which vector makes a suite's numbers better or worse, by leaving each out in turn.

    For each number: its vectors, the most harmful first, with what the number is for their being there.

    \b
    persona blame
    persona blame HEAD~3 --suite listening
    persona blame --suite listening --history -n 10
    """
    from persona.errors import UsageError
    from persona.verbs.blame import blame

    if most is not None and not history:
        raise UsageError("-n says how many commits to look at", "Give --history, too.")
    done = blame(
        app.repository(), rev, suite=suite, history=history, most=most, cwd=app.folder, command=app.command,
        progress=app.progress(), options=options,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    app.show("blame", done, lambda console: _render(console, done))


def _render(console: Console, done: BlameResult) -> None:
    for verdict in done.verdicts:
        way = f", {verdict.better} is better" if verdict.better else ""
        value = f"{number(verdict.value)} {escape(verdict.unit)}"
        console.print(f"[bold]{called(verdict.measure, verdict.name)}[/]  {value}{way}")
        console.print(_vectors(verdict) if verdict.vectors else _commits(verdict))
        console.print()
    console.print(f"[dim]{LEGEND}[/]")


def _vectors(verdict: MeasureBlame) -> Any:
    rows = table("  vector", "α", "its effect", "95 % interval", "without it", right={"α", "without it"})
    for one in verdict.vectors:
        sure = interval(one.effect.low, one.effect.high) if one.effect else ""
        name, alpha = f"  {escape(one.vector)}", escape(alpha_text(one.alpha))
        rows.add_row(name, alpha, moved(one.effect), sure, number(one.without))
    return rows


def _commits(verdict: MeasureBlame) -> Any:
    rows = table("  commit", "its effect", "95 % interval", "value", "", right={"value"})
    for one in verdict.commits:
        sure = interval(one.effect.low, one.effect.high) if one.effect else ""
        rows.add_row(
            f"  [yellow]{short(one.commit)}[/]", moved(one.effect), sure, number(one.value), escape(one.subject)
        )
    return rows
