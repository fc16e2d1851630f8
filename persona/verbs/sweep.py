"""``persona sweep``: measure the recipe with different alphas of one vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate.evaluator import Evaluator, find_figure, goal_of, only_suite, suites_of
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import TrialFigure, change
from persona.history.evaluations import Better, Evaluation, Figure
from persona.progress import SILENT, Progress
from persona.recipe import alphas, edit
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import LARGEST
from persona.repository import Repository
from persona.workspace.record import entry_of, refuse_while_merging, worktree_recipe, worktree_text

MOST = 1000
"""Largest number of alphas in a sweep."""


@dataclass(frozen=True)
class SweepPoint:
    """One alpha, and all numbers of the suite there."""

    alpha: float
    reached: tuple[TrialFigure, ...]


@dataclass(frozen=True)
class SweepResult:
    """The numbers at all alphas, in ascending order.

    ``now`` is the vector's present alpha. ``best`` is the alpha at which the number ``measure`` ``name`` is best, null if neither
    direction is better. ``clear`` says whether it is significantly better than the present recipe, ``written`` whether it was
    written to ``persona.toml``. ``measured`` counts the builds that had to be run.
    """

    vector: str
    suite: str
    now: alphas.Alpha
    stops: tuple[SweepPoint, ...]
    measure: str
    name: str
    better: Better | None
    best: float | None
    clear: bool
    written: bool
    measured: int
    notes: tuple[str, ...] = ()


def sweep(
    repo: Repository,
    vector: str,
    values: Sequence[float],
    *,
    suite: str | Path | None = None,
    by: str | None = None,
    write: bool = False,
    options: MeasureOptions = MeasureOptions(),
    cwd: Path | str = ".",
    command: str = "sweep",
    progress: Progress = SILENT,
) -> SweepResult:
    """Measure the current recipe with each of ``values`` as the alpha of ``vector``.

    Args:
        vector: Name of the vector.
        values: Alphas to try.
        suite: Name or file of the suite; may be None if the repository has only one.
        by: Number to optimize, as ``MEASURE`` or ``MEASURE NAME``; by default the suite's first with a better direction.
        write: Write the best alpha to ``persona.toml``. It is not committed.
        options: How to measure.
        cwd: Folder that relative paths start from.
        command: The command line, for the operation log.

    Raises:
        UsageError: an unknown vector, suite or measure, no suite where there are several, or an invalid alpha.
        Refusal: ``write`` during a merge.
    """
    recipe = worktree_recipe(repo)
    entry = entry_of(recipe, vector)
    values = _checked(values)
    chosen = suites_of(repo, [only_suite(repo, suite)], cwd)
    with Evaluator(repo, chosen, options, command, progress) as evaluator:
        here = evaluator.of(recipe, repo.recipe_path.name)[0]
        goal = goal_of(here) if by is None else find_figure(here, by)
        done = {value: evaluator.of(_with(recipe, entry, value), f"{vector} {value:g}")[0] for value in values}
        best, clear = _best(done, here, goal, options.seed)
        written = write and best is not None and _write(repo, entry, best, command)
        stops = tuple(SweepPoint(value, _reached(there, here, options.seed)) for value, there in done.items())
        return SweepResult(
            vector, chosen[0].name, entry.alpha, stops, goal.measure, goal.name, goal.better, best, clear, written,
            evaluator.measured, tuple(evaluator.notes),
        )  # fmt: skip


def grid(text: str) -> tuple[float, ...]:
    """Read a list of alphas: ``0.2,0.5,1``, or ``-1:1:9`` for nine alphas from −1 to 1.

    Raises:
        UsageError: ``text`` is neither.
    """
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, count = text.split(":")
        start, stop, number = float(first), float(last), int(count)
    except ValueError:
        raise UsageError(
            f"'{text}' is not a list of alphas", "Write FIRST:LAST:COUNT, such as -1:1:9, or 0.2,0.5,1."
        ) from None
    if not 2 <= number <= MOST:
        raise UsageError(f"invalid number of alphas: {number}", f"Give a count from 2 to {MOST}.")
    return tuple(round(start + (stop - start) * at / (number - 1), 12) for at in range(number))


def _checked(values: Sequence[float]) -> list[float]:
    if not values:
        raise UsageError("no alphas to try", "Give some, such as -1:1:9.")
    for value in values:
        if not abs(value) <= LARGEST:  # also false for NaN
            raise UsageError(
                f"alpha {value:g} is not a finite number of at most {LARGEST:.0e}", "Give a number such as 0.8."
            )
    return sorted({value + 0.0 for value in values})


def _with(recipe: Recipe, entry: Entry, alpha: float) -> Recipe:
    changed = replace(entry, alpha=alpha)
    return replace(recipe, vectors=tuple(changed if other is entry else other for other in recipe.vectors))


def _best(done: dict[float, Evaluation], here: Evaluation, goal: Figure, seed: int) -> tuple[float | None, bool]:
    """The alpha at which the goal is best (the smallest of equals), and whether it is significantly better than now."""
    figures = {value: there.figure(goal.key) for value, there in done.items()}
    sound = {value: figure for value, figure in figures.items() if figure is not None and math.isfinite(figure.value)}
    if goal.better is None or not sound:
        return None, False
    sign = 1 if goal.better == "lower" else -1
    best = min(sound, key=lambda value: (sign * sound[value].value, abs(value)))
    gain = change(sound[best], here.figure(goal.key), seed)
    return best, gain is not None and gain.verdict == "better"


def _reached(there: Evaluation, here: Evaluation, seed: int) -> tuple[TrialFigure, ...]:
    return tuple(
        TrialFigure(f.measure, f.name, f.value, f.low, f.high, change(f, here.figure(f.key), seed))
        for f in there.figures
    )


def _write(repo: Repository, entry: Entry, best: float, command: str) -> bool:
    """Set the alpha in ``persona.toml``; return whether it had to change."""
    if entry.alpha == best:
        return False
    with repo.transaction(command) as change_:
        refuse_while_merging(repo)
        change_.set_recipe_text(edit.set_alpha(worktree_text(repo), entry.name, best))
    return True
