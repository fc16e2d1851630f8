"""``persona sweep``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from persona.cli.app import App, json_option
from persona.cli.complete import VECTOR
from persona.cli.output import note
from persona.cli.plots.picture import Picture
from persona.cli.render import table
from persona.cli.running import measuring_options, suite_option
from persona.cli.tables.scores import WRITTEN, called, interval, moved, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona.evaluate.options import MeasureOptions
    from persona.verbs.sweep import SweepPoint, SweepResult


@click.command("sweep")
@click.argument("vector", metavar="NAME", type=VECTOR)
@click.option(
    "--alpha", "alphas", required=True, metavar="FIRST:LAST:COUNT", help="Alphas to try: -1:1:9, or 0.2,0.5,1."
)
@suite_option
@click.option("--by", metavar="MEASURE", help="Measure to optimize. [default: the suite's first measure]")
@click.option("--write", is_flag=True, help="Write the best alpha to persona.toml, without committing it.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw the curves (.png or .svg).")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    vector: str,
    alphas: str,
    suite: str | None,
    by: str | None,
    write: bool,
    plot: str | None,
    options: MeasureOptions,
) -> None:
    """Measure a vector at several alphas

    Keeps the model in memory and rebuilds only the tensors that change between alphas. Prints the best alpha; use --write
    to save it to persona.toml.

    \b
    persona sweep listening --alpha -1:1:9
    persona sweep listening --alpha 0.2,0.5,1 --suite safety --by refusals --write
    persona sweep listening --alpha=-0.5:0.5:5 --plot sweep.png
    """
    from persona.cli.plots import scoremap
    from persona.verbs.sweep import grid, sweep

    picture = Picture(app, plot)
    done = sweep(
        app.repository(), vector, grid(alphas), suite=suite, by=by, write=write, cwd=app.folder,
        command=app.command, progress=app.progress(), options=options,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    picture.write(lambda suffix: scoremap.curves(done, suffix))
    app.show("sweep", done, picture.below(lambda console: _render(console, done)))


def _render(console: Console, done: SweepResult) -> None:
    goal = done.measure, done.name
    others: dict[str, int] = {}  # the first number of each other measure
    for at, figure in enumerate(done.stops[0].reached):
        if figure.measure != done.measure:
            others.setdefault(figure.measure, at)
    console.print(f"[bold]{escape(done.vector)}[/]  {escape(done.suite)}")
    names = [escape(name) for name in others]
    rows = table("α", called(*goal), "95 % interval", "from now", *names, right={"α", called(*goal), *names})
    for stop in done.stops:
        mark = " ←" if stop.alpha == done.best else "  "
        rows.add_row(f"{stop.alpha:g}{mark}", *_cells(stop, goal, others.values()))
    console.print(rows)
    console.print(_offer(done))


def _cells(stop: SweepPoint, goal: tuple[str, str], others: Iterable[int]) -> list[str]:
    figure = next(figure for figure in stop.reached if (figure.measure, figure.name) == goal)
    cells = number(figure.value), interval(figure.low, figure.high), moved(figure.from_now)
    return [*cells, *(number(stop.reached[at].value) for at in others)]


def _offer(done: SweepResult) -> str:
    if done.best is None:
        return f"\n{called(done.measure, done.name)} has no better direction: choose an alpha yourself."
    if done.written:
        return WRITTEN
    if done.now == done.best:
        return "\nThe recipe already has the best of these alphas."
    doubt = "" if done.clear else " (not a clear improvement over the current recipe)"
    edit = escape(shlex.join(["persona", "alpha", f"{done.vector}={done.best:g}"]))
    return f"\nBest alpha: {edit}{doubt}"
