"""``persona sweep``: measure the recipe with different alphas of one vector, or scales of the merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.evaluate import gain, space
from persona.evaluate.evaluator import Evaluator, find_figure, goal_of, only_suite, suites_of
from persona.evaluate.gain import Gain
from persona.evaluate.options import MeasureOptions
from persona.evaluate.results import TrialFigure, change, costs
from persona.evaluate.space import VariedSetting
from persona.history.evaluations import Better, Evaluation, Figure
from persona.notebook import Shown
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.model import Recipe
from persona.recipe.parse import LARGEST
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.workspace.record import entry_of, refuse_while_merging, worktree_recipe, worktree_text

MOST = 1000
"""Largest number of values in a sweep."""


@dataclass(frozen=True)
class SweepPoint:
    """One alpha or scale, and all numbers of the suite there."""

    value: float
    reached: tuple[TrialFigure, ...]


@dataclass(frozen=True, repr=False)
class SweepResult(Shown):
    """The numbers at all values of a vector's alpha, in ascending order; of the merge's scale if ``vector`` is null.

    ``now`` is the present value. ``best`` is the value at which the number ``measure`` ``name`` is best; null if neither direction is
    better, or if all values are significantly worse than the present recipe. ``clear`` says whether it is significantly better than
    the present recipe, and ``costs`` has the other numbers that are significantly worse there. ``written`` says whether it was written
    to ``persona.toml``. ``measured`` counts the builds that had to be run.
    """

    vector: str | None
    suite: str
    now: alphas.Alpha
    stops: tuple[SweepPoint, ...]
    measure: str
    name: str
    better: Better | None
    best: float | None
    clear: bool
    costs: tuple[TrialFigure, ...]
    written: bool
    measured: int
    notes: tuple[str, ...] = ()


def sweep(
    repo: Repository,
    vector: str | None,
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
    """Measure the current recipe with each of ``values`` as the alpha of ``vector``, or as the scale of the merge.

    Args:
        vector: Name of the vector; None for the scale of the merge.
        values: Alphas or scales to try.
        suite: Name or file of the suite; may be None if the repository has only one.
        by: Number to optimize, as ``MEASURE`` or ``MEASURE NAME``; by default the suite's first with a better direction. ``gain`` is
            the share of what each vector does alone that is left (:mod:`persona.evaluate.gain`).
        write: Write the best value to ``persona.toml``. It is not committed.
        options: How to measure.
        cwd: Folder that relative paths start from.
        command: The command line, for the operation log.

    Raises:
        UsageError: an unknown vector, suite or measure, no suite where there are several, or an invalid value.
        Refusal: ``write`` during a merge.
    """
    recipe = worktree_recipe(repo)
    knob = _knob(recipe, vector)
    values = _checked(values, knob.kind)
    chosen = suites_of(repo, [only_suite(repo, suite)], cwd)
    with Evaluator(repo, chosen, options, command, progress) as evaluator:
        here = evaluator.of(recipe, repo.recipe_path.name)[0]
        kept = Gain(evaluator, recipe, options.seed) if by is not None and gain.is_named([by], here) else None
        here = kept.added(here) if kept else here
        goal = goal_of(here) if by is None else find_figure(here, by)
        done = {value: evaluator.of(_with(recipe, knob, value), f"{knob.name} {value:g}")[0] for value in values}
        done = {value: kept.added(there) for value, there in done.items()} if kept else done
        best, clear = _best(done, here, goal, options.seed)
        worse = () if best is None else costs(done[best], here, options.seed, {goal.key})
        written = write and best is not None and _write(repo, knob, best, command)
        stops = tuple(SweepPoint(value, _reached(there, here, options.seed)) for value, there in done.items())
        return SweepResult(
            vector, chosen[0].name, _now(recipe, vector), stops, goal.measure, goal.name, goal.better, best, clear, worse, written,
            evaluator.measured, (*evaluator.notes, *(kept.notes if kept else ())),
        )  # fmt: skip


def grid(text: str) -> tuple[float, ...]:
    """Read a list of alphas or scales: ``0.2,0.5,1``, or ``-1:1:9`` for nine from −1 to 1.

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
            f"'{text}' is not a list of numbers", "Write FIRST:LAST:COUNT, such as -1:1:9, or 0.2,0.5,1."
        ) from None
    if not 2 <= number <= MOST:
        raise UsageError(f"invalid count: {number}", f"Give a count from 2 to {MOST}: FIRST:LAST:COUNT.")
    return tuple(round(start + (stop - start) * at / (number - 1), 12) for at in range(number))


def _knob(recipe: Recipe, vector: str | None) -> VariedSetting:
    """What varies; a vector whose alpha depends on depth or pattern gets a single one."""
    if vector is None:
        return VariedSetting(space.SCALE, "scale")
    return VariedSetting(entry_of(recipe, vector).name, "alpha")


def _now(recipe: Recipe, vector: str | None) -> alphas.Alpha:
    return recipe.scale if vector is None else entry_of(recipe, vector).alpha


def _checked(values: Sequence[float], kind: str) -> list[float]:
    if not values:
        raise UsageError(f"no {kind}s to try", "Give some, such as -1:1:9.")
    for value in values:
        if not abs(value) <= LARGEST:  # also false for NaN
            raise UsageError(
                f"{kind} {value:g} is not a finite number of at most {LARGEST:.0e}", "Give a number such as 0.8."
            )
    return sorted({value + 0.0 for value in values})


def _with(recipe: Recipe, knob: VariedSetting, value: float) -> Recipe:
    return space.recipe_at(recipe, [knob], {knob.key: value})


def _best(done: dict[float, Evaluation], here: Evaluation, goal: Figure, seed: int) -> tuple[float | None, bool]:
    """The value at which the goal is best (the smallest of equals), and whether it is significantly better than now.

    None if it is significantly worse, or if the goal has no better direction.
    """
    figures = {value: there.figure(goal.key) for value, there in done.items()}
    sound = {value: figure for value, figure in figures.items() if figure is not None and math.isfinite(figure.value)}
    if goal.better is None or not sound:
        return None, False
    sign = 1 if goal.better == "lower" else -1
    best = min(sound, key=lambda value: (sign * sound[value].value, abs(value)))
    moved = change(sound[best], here.figure(goal.key), seed)
    if moved is not None and moved.verdict == "worse":
        return None, False
    return best, moved is not None and moved.verdict == "better"


def _reached(there: Evaluation, here: Evaluation, seed: int) -> tuple[TrialFigure, ...]:
    return tuple(
        TrialFigure(f.measure, f.name, f.value, f.low, f.high, change(f, here.figure(f.key), seed))
        for f in there.figures
    )


def _write(repo: Repository, knob: VariedSetting, best: float, command: str) -> bool:
    """Set the value in ``persona.toml``; return whether it had to change."""
    with repo.transaction(command) as change_:
        refuse_while_merging(repo)
        recipe = worktree_recipe(repo)
        wanted = _with(recipe, knob, best)
        if wanted == recipe:
            return False
        change_.set_recipe_text(rewrite(worktree_text(repo), wanted))
    return True
