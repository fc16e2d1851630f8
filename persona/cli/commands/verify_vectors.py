"""``persona verify-vectors``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import REV
from persona.cli.output import note
from persona.cli.plots.picture import Picture
from persona.cli.render import table
from persona.cli.running import measuring_options, suites_option
from persona.cli.tables.scores import LEGEND, called, interval, marked, moved, number

if TYPE_CHECKING:
    from persona.evaluate.options import MeasureOptions
    from persona.verbs.verify_vectors import VerifyVectorsResult


@click.command("verify-vectors")
@suites_option
@click.option("--at", type=REV, metavar="REV", help="The vectors of this revision; of persona.toml otherwise.")
@click.option("--alpha", type=float, metavar="A", help="How strongly to apply each; as the recipe has it otherwise.")
@click.option(
    "--plot", type=click.Path(readable=False), metavar="FILE", help="Draw it as a heat map: a .png or .svg file."
)
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App, /, suites: tuple[str, ...], at: str | None, alpha: float | None, plot: str | None, options: MeasureOptions
) -> None:
    """Measure each vector of the recipe alone on the base, beside noise of its size.

    For each vector and number: what the vector does to it, and what random noise of the same norm in the same tensors
    does. What does no more than noise has learnt nothing that the suite can see.

    \b
    persona verify-vectors
    persona verify-vectors --suite listening --alpha 1
    persona verify-vectors --suite listening --at main~3
    persona verify-vectors --plot vectors.png
    """
    from persona.verbs.verify_vectors import verify_vectors

    picture = Picture(app, plot)
    done = verify_vectors(
        app.repository(),
        suites=suites,
        at=at,
        alpha=alpha,
        cwd=app.folder,
        command=app.command,
        progress=app.progress(),
        options=options,
    )
    for text in done.notes:
        note(f"note: {text}")
    picture.write(lambda suffix: _drawn(done, suffix))
    app.show("verify-vectors", done, picture.below(lambda console: _render(console, done)))


def _drawn(done: VerifyVectorsResult, suffix: str) -> bytes:
    from persona.cli.plots import scoremap

    return scoremap.draw(done, suffix)


def _render(console: Console, done: VerifyVectorsResult) -> None:
    for column in done.columns:
        way = f", {column.better} is better" if column.better else ""
        console.print(
            f"[cyan]{escape(column.suite)}[/]  [bold]{called(column.measure, column.name)}[/]  "
            f"base {number(column.base)} {escape(column.unit)}{way}"
        )
        rows = table("", "from base", "noise", "beyond noise", "95 % interval")
        for cell in column.cells:
            beyond = cell.beyond
            sure = interval(beyond.low, beyond.high) if beyond else ""
            noise = marked(cell.control.value, "") if cell.control else ""
            rows.add_row(f"  {escape(cell.vector)}", moved(cell.effect), noise, moved(beyond), sure)
        console.print(rows)
        console.print()
    console.print(f"[dim]{LEGEND}[/]")
