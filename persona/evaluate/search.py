"""Trials of a recipe's settings, one after the other, each measured by a suite: what ``persona tune`` runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from persona import suggestions
from persona.errors import Refusal, UsageError
from persona.evaluate import choice, space
from persona.evaluate.evaluator import Evaluator, find_figure, goal_of
from persona.evaluate.results import FigureDiff, TrialFigure, change, moved
from persona.evaluate.space import VariedSetting
from persona.evaluate.suite import Suite
from persona.history.evaluations import Better, Evaluation, Figure, number_called
from persona.ids import draw_key
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.suggestions import KnownTrial
from persona.workspace.loading import planned

Stopped = Literal["trials", "minutes", "interrupted"]


@dataclass(frozen=True)
class Objective:
    """A number that is searched for its best, and which way that is."""

    measure: str
    name: str
    unit: str
    better: Better

    @property
    def key(self) -> tuple[str, str]:
        """What it is called in its suite."""
        return self.measure, self.name


@dataclass(frozen=True)
class SearchLimit:
    """A number that may be worse than now by at most ``slack``, in its own unit."""

    measure: str
    name: str
    better: Better
    slack: float

    @property
    def key(self) -> tuple[str, str]:
        """What it is called in its suite."""
        return self.measure, self.name


@dataclass(frozen=True)
class TrialReport:
    """One trial: its settings in the order of what is varied (null of a density that its method has not), and the objectives and limits there,
    with how far they are from trial 0.

    ``broken`` names the limits that it breaks; ``failed`` says why there are no numbers to go by, and is empty where there are. ``front`` says
    whether no other trial is as good in every objective and better in one.
    """

    number: int
    settings: tuple[float | str | None, ...]
    reached: tuple[TrialFigure, ...]
    broken: tuple[str, ...]
    failed: str
    front: bool


@dataclass(frozen=True)
class RecipeTrial:
    """What is known of one: ``values`` are its objectives, the lower the better, None where it has failed; of ``excess``, what is above 0
    breaks a limit."""

    settings: Mapping[str, Any]
    evaluation: Evaluation | None = None
    values: tuple[float, ...] | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """The limits that it breaks."""
        return tuple(name for name, value in self.excess.items() if value > 0)

    @property
    def eligible(self) -> choice.Values:
        """Its values, if it may be chosen."""
        return None if self.broken else self.values


def keys_of(objectives: Sequence[Objective], limits: Sequence[SearchLimit]) -> tuple[tuple[str, str], ...]:
    """What the numbers that a search goes by are called, each once."""
    return tuple(dict.fromkeys([*(one.key for one in objectives), *(one.key for one in limits)]))


class RecipeSearch:
    """All trials of one recipe by the first suite of an evaluator."""

    def __init__(
        self, repo: Repository, evaluator: Evaluator, recipe: Recipe, things: Sequence[VariedSetting], seed: int
    ) -> None:
        self._repo = repo
        self._evaluator = evaluator
        self._recipe = recipe
        self._things = things
        self._seed = seed
        self.trials: list[RecipeTrial] = []
        self.objectives: tuple[Objective, ...] = ()
        self.limits: tuple[SearchLimit, ...] = ()

    def begin(self, by: Sequence[str], keep: Mapping[str, float]) -> None:
        """Measure the recipe as it stands, and find the numbers to go by."""
        here = self._evaluator.of(self._recipe, self._repo.recipe_path.name, suites=self._suite)[0]
        goals = [find_figure(here, said) for said in by] or [goal_of(here)]
        self.objectives = tuple(dict.fromkeys(_objective(figure) for figure in goals))
        self.limits = tuple(_limit(find_figure(here, said), slack) for said, slack in keep.items())
        for one in self.limits:
            figure = here.figure(one.key)
            if figure is None or not math.isfinite(figure.value):
                raise UsageError(f"{number_called(*one.key)} is no number now", "Leave it out of --keep.")
        self.trials.append(self._judged(space.now(self._things), here, here))

    def go_on(self, count: int, minutes: float | None) -> Stopped:
        """Try more, up to number ``count``, until ``minutes`` have passed or a KeyboardInterrupt comes."""
        start = monotonic()
        try:
            for number in range(len(self.trials), count + 1):
                if minutes is not None and monotonic() - start >= 60 * minutes:
                    return "minutes"
                self.trials.append(self._tried(number, f"trial {number} of {count}"))
        except KeyboardInterrupt:
            return "interrupted"
        return "trials"

    def recipe_of(self, number: int) -> Recipe:
        """The recipe of a trial."""
        return space.recipe_at(self._recipe, self._things, self.trials[number].settings) if number else self._recipe

    def recommended(self) -> int | None:
        """The trial that :func:`persona.evaluate.choice.recommended` names; None where it is the recipe as it stands."""
        return choice.recommended([one.eligible for one in self.trials]) or None

    def moved(self, number: int, suite: Suite) -> tuple[FigureDiff, ...]:
        """All numbers of another suite, of the recipe as it stands and of a trial."""
        before = self._evaluator.of(self._recipe, self._repo.recipe_path.name, suites=[suite])[0]
        after = self._evaluator.of(self.recipe_of(number), f"trial {number}", suites=[suite])[0]
        return tuple(moved(before, after, self._seed))

    def shown(self) -> tuple[TrialReport, ...]:
        """All trials, as a result has them."""
        front = choice.front([one.eligible for one in self.trials])
        return tuple(self._shown(at, one, at in front) for at, one in enumerate(self.trials))

    @property
    def _suite(self) -> Sequence[Suite]:
        return self._evaluator.suites[:1]

    def _tried(self, number: int, label: str) -> RecipeTrial:
        found = suggestions.suggested(
            {one.key: one.space for one in self._things},
            [KnownTrial(one.settings, one.values, one.excess) for one in self.trials if self._is_inside(one)],
            draw_key("tune", str(self._seed), str(number)) % (1 << 32),
        )
        settings = {one.key: _in_turn(one, number) or one.rounded(found[one.key]) for one in self._things}
        recipe = space.recipe_at(self._recipe, self._things, settings)
        failed = self._complaint(recipe)
        if failed:
            return RecipeTrial(settings, failed=failed)
        done = self._evaluator.of(recipe, label, suites=self._suite)[0]
        here = self.trials[0].evaluation
        assert here is not None
        return self._judged(settings, done, here)

    def _is_inside(self, one: RecipeTrial) -> bool:
        """Whether it is of the space; where the recipe stands may lie elsewhere."""
        return all(thing.space.has(one.settings[thing.key]) for thing in self._things)

    def _complaint(self, recipe: Recipe) -> str:
        """Why a recipe cannot be built; a method may not take these vectors. What was measured once can be built."""
        if self._evaluator.known(recipe, self._suite):
            return ""
        try:
            planned(self._repo, recipe)
        except (UsageError, Refusal) as error:
            return error.message
        return space.complaint(recipe) or ""

    def _judged(self, settings: Mapping[str, Any], done: Evaluation, here: Evaluation) -> RecipeTrial:
        goals: tuple[Objective | SearchLimit, ...] = (*self.objectives, *self.limits)
        odd = [one for one in goals if not math.isfinite(_value(done, one))]
        if odd:
            called = number_called(*odd[0].key)
            return RecipeTrial(settings, done, failed=f"{called} is {_value(done, odd[0])}")
        values = tuple(_sign(one.better) * _value(done, one) for one in self.objectives)
        excess = {
            number_called(*one.key): _sign(one.better) * (_value(done, one) - _value(here, one)) - one.slack
            for one in self.limits
        }
        return RecipeTrial(settings, done, values, excess)

    def _shown(self, number: int, one: RecipeTrial, front: bool) -> TrialReport:
        method = str(one.settings.get(_METHOD, self._recipe.method))
        settings = tuple(
            None if thing.kind == "density" and not space.has_density(method) else one.settings[thing.key]
            for thing in self._things
        )
        return TrialReport(number, settings, tuple(self._reached(number, one)), one.broken, one.failed, front)

    def _reached(self, number: int, one: RecipeTrial) -> Iterator[TrialFigure]:
        here = self.trials[0].evaluation
        assert here is not None
        for key in keys_of(self.objectives, self.limits):
            figure = one.evaluation.figure(key) if one.evaluation is not None else None
            if figure is not None:
                from_now = change(figure, here.figure(key), self._seed) if number else None
                yield TrialFigure(figure.measure, figure.name, figure.value, figure.low, figure.high, from_now)


def _in_turn(one: VariedSetting, number: int) -> str | None:
    """Of several options each in turn, as long as the others are left to chance: by chance one may not come in ten trials."""
    count = len(one.options)
    return one.options[(number - 1) % count] if count and number <= max(suggestions.BY_CHANCE, count) else None


_METHOD = VariedSetting(space.METHOD, "method").key


def _objective(figure: Figure) -> Objective:
    return Objective(figure.measure, figure.name, figure.unit, _way(figure))


def _limit(figure: Figure, slack: float) -> SearchLimit:
    called = number_called(*figure.key)
    if not 0 <= slack < math.inf:
        raise UsageError(f"{called} cannot be kept within {slack:g}", "Give how much worse it may be, from 0 on.")
    return SearchLimit(figure.measure, figure.name, _way(figure), slack)


def _way(figure: Figure) -> Better:
    if figure.better is None:
        raise UsageError(
            f"neither way is good of {number_called(*figure.key)}",
            'Go by a number that has one; a measure of your own says so by better = "lower" or "higher".',
        )
    return figure.better


def _value(evaluation: Evaluation, one: Objective | SearchLimit) -> float:
    figure = evaluation.figure(one.key)
    return math.nan if figure is None else figure.value


def _sign(better: Better) -> int:
    return 1 if better == "lower" else -1
