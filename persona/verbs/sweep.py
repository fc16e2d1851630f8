"""``persona sweep``: what a suite says while one vector is turned up and down."""

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
"""Alphas of one sweep."""


@dataclass(frozen=True)
class SweepPoint:
    """One alpha, and the numbers there."""

    alpha: float
    reached: tuple[TrialFigure, ...]


@dataclass(frozen=True)
class SweepResult:
    """All alphas, ascending. ``best`` is the one at which ``measure`` ``name`` is best, null where it has no good way;
    ``written`` says whether ``persona.toml`` has it now. ``clear`` says whether it is better than the recipe as it stands by
    more than chance.
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
    """Measure the recipe as it stands with each of ``values`` as the alpha of ``vector``.

    ``by`` is the number to go by, ``MEASURE`` or ``MEASURE NAME``: the first of the suite that has a good way unless given. With
    ``write`` the best alpha is written into ``persona.toml``, to be committed or restored; nothing else ever changes it.
    """
    recipe = worktree_recipe(repo)
    entry = entry_of(recipe, vector)
    wanted = _checked(values)
    found = suites_of(repo, [only_suite(repo, suite)], cwd)
    with Evaluator(repo, found, options, command, progress) as evaluator:
        here = evaluator.of(recipe, repo.recipe_path.name)[0]
        goal = goal_of(here) if by is None else find_figure(here, by)
        done = {value: evaluator.of(_with(recipe, entry, value), f"{vector} {value:g}")[0] for value in wanted}
        best, clear = _best(done, here, goal, options.seed)
        written = write and best is not None and _write(repo, entry, best, command)
        stops = tuple(SweepPoint(value, _reached(one, here, options.seed)) for value, one in done.items())
        return SweepResult(
            vector, found[0].name, entry.alpha, stops, goal.measure, goal.name, goal.better, best, clear, written,
            evaluator.measured, tuple(evaluator.notes),
        )  # fmt: skip


def grid(text: str) -> tuple[float, ...]:
    """``-1:1:9`` is nine alphas from −1 to 1; ``0.2,0.5,1`` are these."""
    try:
        if ":" not in text:
            return tuple(float(part) for part in text.split(","))
        first, last, count = text.split(":")
        start, stop, number = float(first), float(last), int(count)
    except ValueError:
        raise UsageError(
            f"'{text}' is no list of alphas", "Write FIRST:LAST:COUNT, such as -1:1:9, or 0.2,0.5,1."
        ) from None
    if not 2 <= number <= MOST:
        raise UsageError(f"{number} alphas make no sweep", f"Give a count from 2 to {MOST}.")
    return tuple(round(start + (stop - start) * at / (number - 1), 12) for at in range(number))


def _checked(values: Sequence[float]) -> list[float]:
    if not values:
        raise UsageError("there are no alphas to try", "Give some, such as -1:1:9.")
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
    """The alpha where the goal is best, the smallest in size of equals; and whether that is clearly better than now."""
    figures = {value: one.figure(goal.key) for value, one in done.items()}
    sound = {value: one for value, one in figures.items() if one is not None and math.isfinite(one.value)}
    if goal.better is None or not sound:
        return None, False
    sign = 1 if goal.better == "lower" else -1
    best = min(sound, key=lambda value: (sign * sound[value].value, abs(value)))
    found = change(sound[best], here.figure(goal.key), seed)
    return best, found is not None and found.verdict == "better"


def _reached(one: Evaluation, here: Evaluation, seed: int) -> tuple[TrialFigure, ...]:
    return tuple(
        TrialFigure(f.measure, f.name, f.value, f.low, f.high, change(f, here.figure(f.key), seed)) for f in one.figures
    )


def _write(repo: Repository, entry: Entry, best: float, command: str) -> bool:
    """An edit of ``persona.toml`` as a person would make it; whether it was needed."""
    if entry.alpha == best:
        return False
    with repo.transaction(command) as change_:
        refuse_while_merging(repo)
        change_.set_recipe_text(edit.set_alpha(worktree_text(repo), entry.name, best))
    return True
