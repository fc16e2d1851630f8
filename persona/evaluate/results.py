"""What was measured of a recipe, looked up for those who only look: nothing is run, and no weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from persona.history.evaluations import Better, Evaluation, Figure, number_called
from persona.ids import RecipeId
from persona.recipe.builds import BuildDigests, build_digest
from persona.recipe.model import Recipe
from persona.repository import Repository


@dataclass(frozen=True)
class FigureReading:
    """One number of a suite, with its 95 % interval, null where it has none; ``better`` says which way is good."""

    suite: str
    measure: str
    name: str
    unit: str
    better: Better | None
    value: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """In a few words."""
        return f"{number_called(self.measure, self.name)} {self.value:.4g}"


@dataclass(frozen=True)
class FigureChange:
    """A difference and its 95 % interval over pairs of examples. ``verdict`` is better, worse or changed where the interval
    excludes zero, same where it does not, and unknown where there is none.
    """

    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class TrialFigure:
    """One number at one alpha, and how far it is from where the recipe stands, null where that cannot be compared."""

    measure: str
    name: str
    value: float
    low: float | None
    high: float | None
    from_now: FigureChange | None


@dataclass(frozen=True)
class FigureDiff:
    """One number of a suite on both sides, and the 95 % interval of the difference over pairs of examples."""

    suite: str
    measure: str
    name: str
    before: float
    after: float
    low: float | None
    high: float | None
    verdict: str


def readings(repo: Repository, recipe: Recipe) -> tuple[FigureReading, ...]:
    """All numbers that are kept of a recipe, in its weights' own dtype."""
    if repo.evaluations.is_empty:
        return ()
    found = repo.evaluations.of(build_digest(recipe))
    return tuple(_reading(one, figure) for one in found for figure in one.figures)


class Headlines:
    """What was measured of the recipes of a history: of each suite the first number."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._measured = repo.evaluations.builds()
        self._digests = BuildDigests(repo.objects)

    def of(self, recipe: RecipeId) -> tuple[FigureReading, ...]:
        """Of one recipe, by the suites' names. Its text is read where anything was measured in this repository."""
        build = self._digests.of(recipe) if self._measured else ""
        found = self._repo.evaluations.of(build) if build in self._measured else ()
        return tuple(_reading(one, one.figures[0]) for one in found if one.figures)


def moves(repo: Repository, before: Recipe, after: Recipe) -> tuple[FigureDiff, ...]:
    """The numbers of the suites that both recipes were measured by."""
    if repo.evaluations.is_empty or build_digest(before) == build_digest(after):
        return ()
    return tuple(_moves(repo, before, after))


def _moves(repo: Repository, before: Recipe, after: Recipe) -> Iterator[FigureDiff]:
    old = {(one.suite_digest, one.seed): one for one in repo.evaluations.of(build_digest(before))}
    for new in repo.evaluations.of(build_digest(after)):
        other = old.get((new.suite_digest, new.seed))
        if other is not None:
            yield from moved(other, new, new.seed)


def moved(before: Evaluation, after: Evaluation, seed: int) -> Iterator[FigureDiff]:
    """The numbers of one suite that both sides have and that can be compared."""
    for figure in after.figures:
        past = before.figure(figure.key)
        found = change(figure, past, seed)
        if past is not None and found is not None:
            bounds = found.low, found.high, found.verdict
            yield FigureDiff(after.suite, figure.measure, figure.name, past.value, figure.value, *bounds)


def _reading(one: Evaluation, figure: Figure) -> FigureReading:
    interval = figure.value, figure.low, figure.high
    return FigureReading(one.suite, figure.measure, figure.name, figure.unit, figure.better, *interval)


def change(after: Figure, before: Figure | None, seed: int = 0) -> FigureChange | None:
    """From ``before`` to ``after``; None where they cannot be compared."""
    from persona.evaluate.statistics import difference

    found = difference(after, before, seed) if before is not None else None
    if found is None:
        return None
    return FigureChange(
        found.value, found.low, found.high, _verdict(found.value, after.better, found.low, found.excludes_zero)
    )


def _verdict(value: float, better: Better | None, low: float | None, certain: bool) -> str:
    if low is None:
        return "unknown"
    if not certain:
        return "same"
    if better is None:
        return "changed"
    return "better" if (value < 0) == (better == "lower") else "worse"
