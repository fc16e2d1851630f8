"""Plot a search: its objective by trial and over each varied setting, or several objectives against each other."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from persona.cli.plots.picture import drawn
from persona.history.evaluations import number_called

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from persona.evaluate.search import Objective, TrialReport
    from persona.verbs.tune import TuneResult

COLUMNS = 4
"""Largest number of small plots in a row."""

SPREAD = 50
"""Ratio of largest to smallest value above which positive values get a logarithmic axis."""

TRIED, BAD, CHOSEN, NOW, FRONT = "tab:blue", "0.75", "tab:green", "tab:red", "tab:orange"


def draw(done: TuneResult, suffix: str) -> bytes:
    """Plot a search; ``suffix`` is ``.png`` or ``.svg``."""
    return drawn(lambda: _single(done) if len(done.objectives) == 1 else _several(done), suffix)


def _single(done: TuneResult) -> Any:
    """The objective by trial, with the best so far; below, over each varied setting."""
    from matplotlib.figure import Figure

    goal = done.objectives[0]
    rows = math.ceil(len(done.varied) / COLUMNS)
    columns = math.ceil(len(done.varied) / rows)
    figure = Figure((max(7, 2.4 * columns), 3 + 2.3 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.3, *[1.0] * rows])
    top = figure.add_subplot(grid[0, :])
    _points(top, done, [float(t.number) for t in done.trials], [_value(t, goal) for t in done.trials])
    top.step(*_best_so_far(done, goal), where="post", color=CHOSEN, linewidth=1, label="best so far")
    top.set_xlabel("trial", fontsize=9)
    _named(top, goal)
    figure.legend(loc="outside upper right", ncols=5, fontsize=8, frameon=False)
    for at, thing in enumerate(done.varied):
        axes = figure.add_subplot(grid[1 + at // columns, at % columns], sharey=top)
        places = [_place(trial.settings[at], thing.options) for trial in done.trials]
        _points(axes, done, places, [_value(trial, goal) for trial in done.trials])
        if thing.options:
            axes.set_xticks(range(len(thing.options)), thing.options, rotation=20, ha="right")
            axes.set_xlim(-0.5, len(thing.options) - 0.5)
        axes.set_xlabel(
            f"{thing.kind} of {thing.name}" if thing.kind in ("alpha", "factor") else thing.kind,
            fontsize=9,
            parse_math=False,
        )
        axes.tick_params(labelsize=8, labelleft=at % columns == 0)
        if at % columns == 0:
            _named(axes, goal)
    return figure


def _several(done: TuneResult) -> Any:
    """The first objective over each of the others, with the Pareto front."""
    from matplotlib.figure import Figure

    first, *others = done.objectives
    figure = Figure((5.2 * len(others), 4.6), layout="constrained")
    for at, (axes, goal) in enumerate(zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True)):
        across, up = ([_value(trial, each) for trial in done.trials] for each in (goal, first))
        front = sorted((x, y) for trial, x, y in zip(done.trials, across, up, strict=True) if trial.front)
        if len(others) == 1 and front:  # with more objectives, this would be a projection of the front
            axes.plot(*zip(*front, strict=True), color=FRONT, linewidth=0.8, zorder=1)
        _points(axes, done, across, up, named=at == 0)
        for trial, x, y in zip(done.trials, across, up, strict=True):
            if trial.front or trial.number == done.chosen:
                axes.annotate(str(trial.number), (x, y), (4, 4), textcoords="offset points", fontsize=7)
        axes.set_xlabel(_called(goal), fontsize=9, parse_math=False)
        axes.set_xscale(_scale(across))
        axes.set_yscale(_scale(up))
        _named(axes, first)
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return figure


def _points(axes: Axes, done: TuneResult, across: list[float], up: list[float], *, named: bool = True) -> None:
    """All trials: pale if they break a limit, with marks for trial 0 and the chosen one."""
    kinds = [
        ("out of bounds", BAD, "o", 16, [t.number for t in done.trials if t.broken]),
        ("tried", TRIED, "o", 16, [t.number for t in done.trials[1:] if not t.broken]),
        ("front", FRONT, "o", 22, [t.number for t in done.trials[1:] if t.front and len(done.objectives) > 1]),
        ("now", NOW, "D", 34, [0]),
        ("chosen", CHOSEN, "*", 110, [done.chosen] if done.chosen else []),
    ]
    first = not axes.figure.axes or axes is axes.figure.axes[0]
    for order, (label, color, marker, size, numbers) in enumerate(kinds, 2):
        if numbers:
            axes.scatter(
                [across[at] for at in numbers], [up[at] for at in numbers], s=size, c=color, marker=marker,
                linewidths=0, zorder=order, label=label if named and first else "",
            )  # fmt: skip


def _best_so_far(done: TuneResult, goal: Objective) -> tuple[list[int], list[float]]:
    sign = 1 if goal.better == "lower" else -1
    sound = [sign * _value(t, goal) if not t.broken and not t.failed else math.inf for t in done.trials]
    best = [sign * value if math.isfinite(value) else math.nan for value in accumulate(sound, min)]
    return list(range(len(best))), best


def _value(trial: TrialReport, goal: Objective) -> float:
    """A trial's value of an objective; NaN, which is not drawn, if it has none."""
    values = (figure.value for figure in trial.reached if (figure.measure, figure.name) == goal.key)
    return next((value for value in values if not trial.failed and math.isfinite(value)), math.nan)


def _place(value: float | str | None, options: tuple[str, ...]) -> float:
    if isinstance(value, str):
        return float(options.index(value)) if value in options else math.nan
    return math.nan if value is None else float(value)


def _called(goal: Objective) -> str:
    return f"{number_called(*goal.key)}\n({goal.better} is better)"


def _scale(values: list[float]) -> str:
    sound = [value for value in values if math.isfinite(value)]
    return "log" if sound and min(sound) > 0 and max(sound) > SPREAD * min(sound) else "linear"


def _named(axes: Axes, goal: Objective) -> None:
    axes.set_ylabel(_called(goal), fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
