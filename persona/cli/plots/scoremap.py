"""Plot numbers of suites: vectors as a heat map, a sweep as curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from persona.cli.plots.picture import drawn
from persona.history.evaluations import number_called

if TYPE_CHECKING:
    from persona.verbs.sweep import SweepResult
    from persona.verbs.verify_vectors import VectorCell, VectorColumn, VerifyVectorsResult


_DARK = 2.4
"""Half widths from which a cell is so dark that its number is white; the colours end at 4."""


def draw(done: VerifyVectorsResult, suffix: str) -> bytes:
    """Plot vectors by numbers; ``suffix`` is ``.png`` or ``.svg``."""
    return drawn(lambda: _map(done), suffix)


def curves(done: SweepResult, suffix: str) -> bytes:
    """Plot numbers over alpha or scale; ``suffix`` is ``.png`` or ``.svg``."""
    return drawn(lambda: _curves(done), suffix)


def _map(done: VerifyVectorsResult) -> Any:
    """The effect of each vector and of its control on each number, in half widths of its interval; red is worse."""
    from matplotlib.figure import Figure

    columns, names = done.columns, done.vectors
    figure = Figure((2.5 + 1.1 * len(columns), 1.6 + 0.4 * 2 * len(names)), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for axis, title in zip(axes, ("the vector alone", "noise of the same size"), strict=True):
        control = axis is axes[1]
        values = [
            [_weight(column, column.cells[row], control=control) for column in columns] for row in range(len(names))
        ]
        image = axis.imshow(values, cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto")
        axis.set_facecolor("0.9")
        axis.set_title(title, fontsize=10)
        axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
        for row, _ in enumerate(names):
            for at, column in enumerate(columns):
                change = column.cells[row].control if control else column.cells[row].effect
                text, dark = f"{change.value:+.3g}" if change else "", abs(values[row][at]) > _DARK
                axis.text(at, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "0.15")
    labels = [f"{c.suite}\n{number_called(c.measure, c.name)}" for c in columns]
    axes[1].set_xticks(range(len(columns)), labels, rotation=90, fontsize=8, parse_math=False)
    bar = figure.colorbar(image, ax=axes, aspect=30)
    bar.set_label("change from the base,\nin half widths of its interval", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def _weight(column: VectorColumn, cell: VectorCell, *, control: bool) -> float:
    """A change in half widths of its interval; positive if it is worse, or an increase if neither direction is better."""
    change = cell.control if control else cell.effect
    if change is None or change.low is None or change.high is None:
        return math.nan
    half = (change.high - change.low) / 2
    sign = -1 if column.better == "higher" else 1
    return sign * change.value / half if half else 0.0


def _curves(done: SweepResult) -> Any:
    """A curve for each number over alpha or scale, with intervals, and a line at the present value."""
    from matplotlib.figure import Figure

    shown = [(figure.measure, figure.name) for figure in done.stops[0].reached]
    figure = Figure((6, 1 + 1.7 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    values = [stop.value for stop in done.stops]
    for at, (axis, key) in enumerate(zip(axes, shown, strict=True)):
        points = [stop.reached[at] for stop in done.stops]
        axis.plot(values, [point.value for point in points], marker="o", markersize=3)
        bounds = [(math.nan if b is None else b) for point in points for b in (point.low, point.high)]
        axis.fill_between(values, bounds[::2], bounds[1::2], alpha=0.2, linewidth=0)
        axis.set_title(number_called(*key), fontsize=9, loc="left", parse_math=False)
        if not isinstance(done.now, tuple):
            axis.axvline(done.now, color="0.6", linestyle="--", linewidth=0.8)
        if done.best is not None and key == (done.measure, done.name):
            axis.axvline(done.best, color="tab:green", linewidth=0.8)
    axes[-1].set_xlabel(
        "scale of the merge" if done.vector is None else f"alpha of {done.vector}", fontsize=9, parse_math=False
    )
    return figure
