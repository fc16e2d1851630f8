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
from persona.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from persona.evaluate.options import MeasureOptions
    from persona.verbs.sweep import SweepPoint, SweepResult


@click.command("sweep")
@click.argument("vector", metavar="[NAME]", type=VECTOR, required=False)
@click.option("--alpha", "alphas", metavar="FIRST:LAST:COUNT", help="Alphas of NAME to try: -1:1:9, or 0.2,0.5,1.")
@click.option("--scale", "scales", metavar="FIRST:LAST:COUNT", help="Scales of the merge to try, without NAME.")
@suite_option
@click.option("--by", metavar="MEASURE", help="Measure to optimize, or gain. [default: the suite's first measure]")
@click.option("--write", is_flag=True, help="Write the best value to persona.toml, without committing it.")
@click.option("--plot", type=click.Path(readable=False), metavar="FILE", help="Draw the curves (.png or .svg).")
@measuring_options
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    vector: str | None,
    alphas: str | None,
    scales: str | None,
    suite: str | None,
    by: str | None,
    write: bool,
    plot: str | None,
    options: MeasureOptions,
) -> None:
    """Measure at several alphas or scales

    Keeps the model in memory and rebuilds only the tensors that change. Prints the best value and what it makes worse; use
    --write to save it to persona.toml. --by gain compares by the share of each vector's own effect that is left, on the
    measures named after the vectors.

    \b
    persona sweep listening --alpha -1:1:9
    persona sweep --scale 0.2:1.2:6 --by gain
    persona sweep listening --alpha 0.2,0.5,1 --suite safety --by refusals --write
    persona sweep listening --alpha=-0.5:0.5:5 --plot sweep.png
    """
    from persona.cli.plots import scoremap
    from persona.verbs.sweep import grid, sweep

    values = _values(vector, alphas, scales)
    picture = Picture(app, plot)
    done = sweep(
        app.repository(), vector, grid(values), suite=suite, by=by, write=write, cwd=app.folder,
        command=app.command, progress=app.progress(), options=options,
    )  # fmt: skip
    for text in done.notes:
        note(f"note: {text}")
    picture.write(lambda suffix: scoremap.curves(done, suffix))
    app.show("sweep", done, picture.below(lambda console: _render(console, done)))


def _values(vector: str | None, alphas: str | None, scales: str | None) -> str:
    if vector is not None and alphas is not None and scales is None:
        return alphas
    if vector is None and alphas is None and scales is not None:
        return scales
    raise UsageError(
        "give a vector and --alpha, or --scale alone",
        "Such as: persona sweep NAME --alpha -1:1:9, or persona sweep --scale 0.2:1.2:6",
    )


def _render(console: Console, done: SweepResult) -> None:
    goal = done.measure, done.name
    others: dict[str, int] = {}  # the first number of each other measure
    for at, figure in enumerate(done.stops[0].reached):
        if figure.measure != done.measure:
            others.setdefault(figure.measure, at)
    console.print(f"[bold]{escape(done.vector or 'scale of the merge')}[/]  {escape(done.suite)}")
    names = [escape(name) for name in others]
    knob = "λ" if done.vector is None else "α"
    rows = table(knob, called(*goal), "95 % interval", "from now", *names, right={knob, called(*goal), *names})
    for stop in done.stops:
        mark = " ←" if stop.value == done.best else "  "
        rows.add_row(f"{stop.value:g}{mark}", *_cells(stop, goal, others.values()))
    console.print(rows)
    console.print(_offer(done))


def _cells(stop: SweepPoint, goal: tuple[str, str], others: Iterable[int]) -> list[str]:
    figure = next(figure for figure in stop.reached if (figure.measure, figure.name) == goal)
    cells = number(figure.value), interval(figure.low, figure.high), moved(figure.from_now)
    return [*cells, *(number(stop.reached[at].value) for at in others)]


def _offer(done: SweepResult) -> str:
    knob = "scale" if done.vector is None else "alpha"
    if done.better is None:
        return f"\n{called(done.measure, done.name)} has no better direction: choose the {knob} yourself."
    if done.best is None:
        return f"\nNone of these {knob}s is as good as the current recipe."
    worse = f"\nIt makes worse: {escape(', '.join(cost.by for cost in done.costs))}." if done.costs else ""
    if done.written:
        return WRITTEN + worse
    if done.now == done.best:
        return f"\nThe recipe already has the best of these {knob}s."
    doubt = "" if done.clear else " (not a clear improvement over the current recipe)"
    return f"\nBest {knob}: {escape(_edit(done))}{doubt}{worse}"


def _edit(done: SweepResult) -> str:
    """The command that sets the best value, or the line of persona.toml."""
    if done.vector is not None:
        return shlex.join(["persona", "alpha", f"{done.vector}={done.best:g}"])
    return f"scale = {done.best:g} in [merge]: add --write to the same command"
