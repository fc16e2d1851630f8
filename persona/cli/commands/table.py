"""``persona table``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import visible, writing
from persona.cli.plots.picture import Picture
from persona.cli.render import short, table
from persona.cli.tables.scores import LEGEND, marked, number
from persona.errors import UsageError
from persona.recipe.alphas import alpha_text

if TYPE_CHECKING:
    from persona.verbs.table import ExperimentRow, TableResult

WIDEST = 36
"""Characters of a subject in the table."""


@click.command("table")
@click.argument("revs", nargs=-1, type=REV, metavar="[REV]...")
@click.option("--all", "everything", is_flag=True, help="Start at every branch and tag.")
@click.option("--sort", metavar="COLUMN", help="Sort by a column, smallest first. [default: newest commit first]")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--where", multiple=True, metavar="CONDITION", help="Only commits that meet this; repeatable.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Maximum number of rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw the measures (.png or .svg).")
@json_option
@click.pass_obj
def command(
    app: App,
    revs: tuple[str, ...],
    everything: bool,
    sort: str | None,
    reverse: bool,
    where: tuple[str, ...],
    limit: int | None,
    as_csv: bool,
    plot: str | None,
) -> None:
    """Compare commits in a table

    A row for each commit, with the alphas of its vectors, its method and scale, and every number that 'persona eval' has stored for
    it, with the change from its first parent. Nothing is measured.

    Columns for --sort and --where are commit, time, subject, method, scale, vectors (their alphas), and measures as the table calls them.
    A condition is a column, one of = != < > <= >=, and a value.

    \b
    persona table
    persona table --all --sort "calm answers loss" -n 10
    persona table --where "listening>0.5" --where method=linear
    persona table --csv > experiments.csv
    persona table --plot history.svg
    """
    from persona.cli.plots import historymap
    from persona.verbs.table import table as tabulate

    if as_csv and app.json:
        raise UsageError("--csv and --json exclude each other", "Choose one.")
    picture = Picture(app, plot)
    done = tabulate(
        app.repository(), revs or "HEAD", limit=limit, everything=everything, sort=sort, reverse=reverse, where=where
    )
    if plot is not None and not done.measures:
        raise UsageError(
            "none of these commits was measured, so there is nothing to draw", "Measure some: persona eval"
        )
    picture.write(lambda suffix: historymap.draw(done, suffix))
    if as_csv:
        with writing():
            click.echo(_csv(done), nl=False)
        return
    app.show("table", done, picture.below(lambda console: _render(console, done)))


def _render(console: Console, done: TableResult) -> None:
    if not done.rows:
        console.print("No commit meets the conditions.")
        return
    names = [column.name for column in done.measures]
    rows = table("commit", "", *map(escape, done.vectors), "method", "scale", *map(escape, names), whole=("commit",))
    for row in done.rows:
        alphas = (escape(alpha_text(row.alphas[name])) if name in row.alphas else "" for name in done.vectors)
        figures = (_figure(row, name) for name in names)
        rows.add_row(short(row.commit), _about(row), *alphas, row.method, f"{row.scale:g}", *figures)
    console.print(rows)
    if any(figure.verdict in ("better", "worse", "changed") for row in done.rows for figure in row.figures):
        console.print(f"\n[dim]{LEGEND}[/]")


def _about(row: ExperimentRow) -> str:
    subject = row.subject if len(row.subject) <= WIDEST else f"{row.subject[: WIDEST - 1]}…"
    names = f"[yellow]({escape(', '.join(row.names))})[/] " if row.names else ""
    return f"{names}{escape(subject)}"


def _figure(row: ExperimentRow, column: str) -> str:
    figure = row.figure(column)
    if figure is None:
        return ""
    change = "" if figure.change is None else f" ({marked(figure.change, figure.verdict or '')})"
    return f"{number(figure.value)}{change}"


def _csv(done: TableResult) -> str:
    """The table with a column for each change, and full ids."""
    out, names = io.StringIO(), [column.name for column in done.measures]
    write = csv.writer(out, lineterminator="\n")
    heading = ["commit", "parent", "names", "time", "subject", *done.vectors, "method", "scale"]
    write.writerow(map(visible, [*heading, *(part for name in names for part in (name, f"{name} change"))]))
    for row in done.rows:
        alphas = (alpha_text(row.alphas[name]) if name in row.alphas else "" for name in done.vectors)
        cells = [
            row.commit,
            row.parent or "",
            " ".join(row.names),
            row.time,
            row.subject,
            *alphas,
            row.method,
            str(row.scale),
        ]
        for figure in map(row.figure, names):
            value, change = (figure.value, figure.change) if figure is not None else (None, None)
            cells += ["" if part is None else repr(part) for part in (value, change)]
        write.writerow(map(visible, cells))
    return out.getvalue()
