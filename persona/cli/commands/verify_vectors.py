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
from persona.cli.tables.scores import LEGEND, STYLES, called, interval_of, marked, moved, number
from persona.history.evaluations import number_called

if TYPE_CHECKING:
    from persona.evaluate.options import MeasureOptions
    from persona.verbs.verify_vectors import VerifyVectorsResult


@click.command("verify-vectors")
@suites_option
@click.option("--at", type=REV, metavar="REV", help="Measure the vectors of this revision. [default: persona.toml]")
@click.option("--alpha", type=float, metavar="A", help="Alpha of every vector. [default: as in the recipe]")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw a heat map (.png or .svg).")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App, /, suites: tuple[str, ...], at: str | None, alpha: float | None, plot: str | None, options: MeasureOptions
) -> None:
    """Measure each vector alone, beside random noise

    For each vector and measure, shows the effect of the vector on the base, and that of random noise of the same norm in
    the same tensors. A vector that does no better than noise has not learned anything this suite measures. The last table
    shows what each vector gains, and what it makes worse in any suite: its price.

    \b
    persona verify-vectors
    persona verify-vectors --suite listening --alpha 1
    persona verify-vectors --suite listening --at main~3
    persona verify-vectors --plot vectors.png
    """
    from persona.cli.plots import scoremap
    from persona.verbs.verify_vectors import verify_vectors

    picture = Picture(app, plot)
    done = verify_vectors(
        app.repository(), suites=suites, at=at, alpha=alpha, options=options, cwd=app.folder, command=app.command,
        progress=app.progress(),
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    picture.write(lambda suffix: scoremap.draw(done, suffix))
    app.show("verify-vectors", done, picture.below(lambda console: _render(console, done)))


def _render(console: Console, done: VerifyVectorsResult) -> None:
    for column in done.columns:
        direction = f", {column.better} is better" if column.better else ""
        console.print(
            f"[cyan]{escape(column.suite)}[/]  [bold]{called(column.measure, column.name)}[/]  "
            f"base {number(column.base)} {escape(column.unit)}{direction}"
        )
        numbers = "from base", "noise", "beyond noise", "95 % interval"
        rows = table("", *numbers, whole=numbers)
        for cell in column.cells:
            noise = marked(cell.control.value, "") if cell.control else ""
            name, beyond = f"  {escape(cell.vector)}", moved(cell.beyond)
            rows.add_row(name, moved(cell.effect), noise, beyond, interval_of(cell.beyond))
        console.print(rows)
        console.print()
    _prices(console, done)
    console.print(f"[dim]{LEGEND}[/]")


def _prices(console: Console, done: VerifyVectorsResult) -> None:
    """Print what each vector makes clearly better, and what it makes worse in any suite: its price."""
    names = [number_called(column.measure, column.name) for column in done.columns]
    rows = table("", "", "")
    rows.show_header = False
    for at, vector in enumerate(done.vectors):
        effects = [(column, column.cells[at].effect) for column in done.columns]
        for title, verdict in (("gain", "better"), ("price", "worse")):
            found = [
                f"{f'{column.suite} ' if names.count(name) > 1 else ''}{name} {number(effect.value, sign=True)}"
                for name, (column, effect) in zip(names, effects, strict=True)
                if effect is not None and effect.verdict == verdict
            ]
            text = escape(", ".join(found)) or "[dim]nothing clear[/]"
            rows.add_row(f"  {escape(vector)}" if title == "gain" else "", f"[{STYLES[verdict]}]{title}[/]", text)
    console.print("What each vector alone gains, and its price: what it makes worse in any suite")
    console.print(rows)
    console.print()
