"""The search of ``persona tune``: each trial is a recipe with other settings, measured by a suite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from persona.errors import Refusal, UsageError
from persona.evaluate import gain, space
from persona.evaluate.evaluator import BASE, Evaluator, base_of, find_figure, goal_of
from persona.evaluate.gain import Gain
from persona.evaluate.options import SearchOptions
from persona.evaluate.results import FigureDiff, TrialFigure, change, costs, moved
from persona.evaluate.space import VariedSetting
from persona.evaluate.suite import Suite
from persona.history.evaluations import Better, Evaluation, Figure, number_called
from persona.ids import draw_key
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.suggestions import AT_RANDOM, Search, Trial
from persona.workspace.loading import planned


@dataclass(frozen=True)
class Objective:
    """A measure to optimize, and whether lower or higher is better."""

    measure: str
    name: str
    unit: str
    better: Better

    @property
    def key(self) -> tuple[str, str]:
        """Its name in the suite."""
        return self.measure, self.name


@dataclass(frozen=True)
class SearchLimit:
    """A measure that may be worse by at most ``slack``, in its own unit, than that of ``since``: "now" or the "base"."""

    measure: str
    name: str
    better: Better
    slack: float
    since: Literal["now", "base"] = "now"

    @property
    def key(self) -> tuple[str, str]:
        """Its name in the suite."""
        return self.measure, self.name

    @property
    def called(self) -> str:
        """Its name in sentences."""
        return number_called(*self.key) + (" (from the base)" if self.since == "base" else "")


@dataclass(frozen=True)
class TrialReport:
    """One trial of a search.

    ``settings`` follow the order of ``varied``; a density is null if the trial's method has none. ``reached`` has the
    objectives and limits with their change from trial 0, and ``costs`` the suite's other numbers that are clearly worse than those of
    trial 0. ``broken`` names the limits that the trial breaks. ``failed``
    says why it has no usable numbers, and is empty if it has. ``front`` says whether it is on the Pareto front: no other
    trial is at least as good in every objective and better in one.
    """

    number: int
    settings: tuple[float | str | None, ...]
    reached: tuple[TrialFigure, ...]
    costs: tuple[TrialFigure, ...]
    broken: tuple[str, ...]
    failed: str
    front: bool


def keys_of(objectives: Sequence[Objective], limits: Sequence[SearchLimit]) -> tuple[tuple[str, str], ...]:
    """The names of all objectives and limits, each once."""
    return tuple(dict.fromkeys([*(goal.key for goal in objectives), *(limit.key for limit in limits)]))


class RecipeSearch(Search[Evaluation]):
    """A search over the settings of a recipe.

    Args:
        evaluator: Its first suite measures the trials.
        recipe: The present recipe, which is trial 0.
        things: What varies.
        seed: Random seed of suggestions and intervals.
        search: ``by`` names measures to optimize, the suite's first if empty; ``keep`` and ``keep_base`` those that must not be
            worse than now, or than the base, by more than the given number.

    Raises:
        UsageError: a measure does not exist, has no better direction, or is not a finite number now.
    """

    def __init__(
        self,
        repo: Repository,
        evaluator: Evaluator,
        recipe: Recipe,
        things: Sequence[VariedSetting],
        seed: int,
        search: SearchOptions,
    ) -> None:
        super().__init__({thing.key: thing.space for thing in things})
        self._repo, self._evaluator, self._recipe = repo, evaluator, recipe
        self._things, self._seed = things, seed
        self._gain: Gain | None = None
        self._now = self._measured(recipe, repo.recipe_path.name)
        if gain.is_named((*search.by, *search.keep), self._now):
            self._gain = Gain(evaluator, recipe, seed)
            self._now = self._gain.added(self._now)
        goals = [find_figure(self._now, name) for name in search.by] or [goal_of(self._now)]
        self.objectives = tuple(dict.fromkeys(_objective(figure) for figure in goals))
        self._since: dict[str, Evaluation] = {"now": self._now}
        if search.keep_base:
            self._since["base"] = self._measured(base_of(recipe), BASE)
        self.limits = (*self._limits(search.keep, "now"), *self._limits(search.keep_base, "base"))
        self.trials.append(self._judged(space.now(things), self._now))

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings."""
        return self._gain.notes if self._gain else ()

    def _limits(self, slacks: Mapping[str, float], since: Literal["now", "base"]) -> Iterator[SearchLimit]:
        for name, slack in slacks.items():
            limit = _limit(find_figure(self._now, name), slack, since)
            if not math.isfinite(_value(self._since[since], limit)):
                where, option = ("now", "--keep") if since == "now" else ("for the base", "--keep-base")
                raise UsageError(
                    f"{number_called(*limit.key)} is not a finite number {where}", f"Leave it out of {option}."
                )
            yield limit

    def attempt(self, number: int, settings: dict[str, Any]) -> Trial[Evaluation]:
        """Measure the recipe with these settings; rounded, and the first trials take the options in turn."""
        settings = {thing.key: _in_turn(thing, number) or thing.rounded(settings[thing.key]) for thing in self._things}
        recipe = space.recipe_at(self._recipe, self._things, settings)
        failed = self._complaint(recipe)
        if failed:
            return Trial(settings, failed=failed)
        return self._judged(settings, self._measured(recipe, f"trial {number} of {self.count}"))

    def seed_of(self, number: int) -> int:
        """A seed for each trial."""
        return draw_key("tune", str(self._seed), str(number)) % (1 << 32)

    def recipe_of(self, number: int) -> Recipe:
        """The recipe of a trial."""
        return space.recipe_at(self._recipe, self._things, self.trials[number].settings) if number else self._recipe

    def moved(self, number: int, suite: Suite) -> tuple[FigureDiff, ...]:
        """How the numbers of another suite change from the present recipe to a trial."""
        before = self._measured(self._recipe, self._repo.recipe_path.name, suite)
        after = self._measured(self.recipe_of(number), f"trial {number}", suite)
        return tuple(moved(before, after, self._seed))

    def reports(self) -> tuple[TrialReport, ...]:
        """All trials as a result has them."""
        front = self.front()
        return tuple(self._report(number, trial, number in front) for number, trial in enumerate(self.trials))

    def _measured(self, recipe: Recipe, label: str, suite: Suite | None = None) -> Evaluation:
        found = self._evaluator.of(recipe, label, suites=[suite or self._evaluator.suites[0]])[0]
        return self._gain.added(found) if self._gain and suite is None else found

    def _complaint(self, recipe: Recipe) -> str:
        """Why a recipe cannot be built, empty if it can; its method may not accept these vectors."""
        if self._evaluator.known(recipe, self._evaluator.suites[:1]):
            return ""  # it was built before
        try:
            planned(self._repo, recipe)
        except (UsageError, Refusal) as error:
            return error.message
        return space.complaint(recipe) or ""

    def _judged(self, settings: Mapping[str, Any], evaluation: Evaluation) -> Trial[Evaluation]:
        goals: tuple[Objective | SearchLimit, ...] = (*self.objectives, *self.limits)
        for goal in goals:
            if not math.isfinite(_value(evaluation, goal)):
                failed = f"{number_called(*goal.key)} is {_value(evaluation, goal)}"
                return Trial(settings, result=evaluation, failed=failed)
        values = tuple(_sign(goal.better) * _value(evaluation, goal) for goal in self.objectives)
        excess = {
            limit.called: _sign(limit.better) * (_value(evaluation, limit) - _value(self._since[limit.since], limit))
            - limit.slack
            for limit in self.limits
        }
        return Trial(settings, values, excess, evaluation)

    def _report(self, number: int, trial: Trial[Evaluation], front: bool) -> TrialReport:
        method = str(trial.settings.get(_METHOD, self._recipe.method))
        settings = tuple(
            None if thing.kind == "density" and not space.has_density(method) else trial.settings[thing.key]
            for thing in self._things
        )
        reached, others = tuple(self._reached(number, trial)), tuple(self._costs(number, trial))
        return TrialReport(number, settings, reached, others, trial.broken, trial.failed, front)

    def _costs(self, number: int, trial: Trial[Evaluation]) -> Iterator[TrialFigure]:
        if not number or trial.result is None:
            return
        shown = keys_of(self.objectives, self.limits)
        for cost in costs(trial.result, self._now, self._seed, shown):
            if self._gain is None or cost.measure != gain.MEASURE:
                yield cost

    def _reached(self, number: int, trial: Trial[Evaluation]) -> Iterator[TrialFigure]:
        for key in keys_of(self.objectives, self.limits):
            figure = trial.result.figure(key) if trial.result is not None else None
            if figure is not None:
                from_now = change(figure, self._now.figure(key), self._seed) if number else None
                yield TrialFigure(figure.measure, figure.name, figure.value, figure.low, figure.high, from_now)


def _in_turn(thing: VariedSetting, number: int) -> str | None:
    """The option of an early trial: each in turn, since random draws might miss one in ten trials."""
    count = len(thing.options)
    return thing.options[(number - 1) % count] if count and number <= max(AT_RANDOM, count) else None


_METHOD = VariedSetting(space.METHOD, "method").key


def _objective(figure: Figure) -> Objective:
    return Objective(figure.measure, figure.name, figure.unit, _better(figure))


def _limit(figure: Figure, slack: float, since: Literal["now", "base"]) -> SearchLimit:
    if not 0 <= slack < math.inf:
        raise UsageError(
            f"invalid limit {slack:g} for {number_called(*figure.key)}", "Give how much worse it may get: 0 or more."
        )
    return SearchLimit(figure.measure, figure.name, _better(figure), slack, since)


def _better(figure: Figure) -> Better:
    if figure.better is None:
        raise UsageError(
            f"{number_called(*figure.key)} has no better direction, so it cannot be optimized or kept",
            'Choose another measure; a measure of your own declares better = "lower" or "higher".',
        )
    return figure.better


def _value(evaluation: Evaluation, goal: Objective | SearchLimit) -> float:
    figure = evaluation.figure(goal.key)
    return math.nan if figure is None else figure.value


def _sign(better: Better) -> int:
    return 1 if better == "lower" else -1
