"""Results of measuring, and how to look them up without running a model or reading weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from persona.history.evaluations import Better, Evaluation, Figure, number_called
from persona.ids import RecipeId
from persona.recipe.builds import BuildDigests, build_digest
from persona.recipe.model import Recipe
from persona.repository import Repository

DTYPES = {None: None, "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""Dtypes that a model may have been measured in, with their short names; None is that of its weights."""


def labelled(suite: str, dtype: str | None) -> str:
    """``calm (fp32)``: a suite, and the dtype if the model did not run in that of its weights."""
    return f"{suite} ({dtype})" if dtype else suite


@dataclass(frozen=True)
class FigureReading:
    """One number of a suite with its 95 % interval.

    The interval is null if there are too few examples. ``better`` is "lower" or "higher", or null if neither is better.
    ``dtype`` is the dtype that was asked for, null if the model ran in that of its weights.
    """

    suite: str
    measure: str
    name: str
    unit: str
    better: Better | None
    value: float
    low: float | None
    high: float | None
    dtype: str | None = None

    @property
    def source(self) -> str:
        """Its suite and dtype."""
        return labelled(self.suite, self.dtype)

    @property
    def text(self) -> str:
        """Its name and value."""
        return f"{number_called(self.measure, self.name)} {self.value:.4g}"


@dataclass(frozen=True)
class FigureChange:
    """A difference, with its 95 % interval over pairs of examples.

    ``verdict`` is "better", "worse" or "changed" if the interval excludes zero ("changed" if neither direction is better),
    "same" if it includes zero, and "unknown" if there is no interval.
    """

    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class TrialFigure:
    """One number of a trial, and its change from the present recipe, null if the two cannot be compared."""

    measure: str
    name: str
    value: float
    low: float | None
    high: float | None
    from_now: FigureChange | None

    @property
    def by(self) -> str:
        """Its name and the size of its change: ``voice loss by 0.09``."""
        return f"{number_called(self.measure, self.name)} by {abs(self.from_now.value if self.from_now else 0.0):.3g}"


@dataclass(frozen=True)
class FigureDiff:
    """One number of a suite on both sides of a comparison, with the 95 % interval of the difference over pairs of examples.

    ``dtype`` is the dtype that was asked for, null if the models ran in that of their weights.
    """

    suite: str
    measure: str
    name: str
    before: float
    after: float
    low: float | None
    high: float | None
    verdict: str
    dtype: str | None = None

    @property
    def source(self) -> str:
        """Its suite and dtype."""
        return labelled(self.suite, self.dtype)


def readings(repo: Repository, recipe: Recipe) -> tuple[FigureReading, ...]:
    """All stored numbers of a recipe: those measured in its own dtype, then those in others."""
    if repo.evaluations.is_empty:
        return ()
    return tuple(
        _reading(evaluation, figure, short)
        for dtype, short in DTYPES.items()
        for evaluation in repo.evaluations.of(build_digest(recipe, dtype))
        for figure in evaluation.figures
    )


class Headlines:
    """The first number of each suite, for the recipes of a history."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._measured = repo.evaluations.builds()
        self._digests = BuildDigests(repo.objects)

    def of(self, recipe: RecipeId) -> tuple[FigureReading, ...]:
        """The headline numbers of one recipe, by the suites' names; in another dtype only if there is none in its own."""
        found: dict[str, FigureReading] = {}
        for dtype, short in DTYPES.items() if self._measured else ():
            build = self._digests.of(recipe, dtype)
            for evaluation in self._repo.evaluations.of(build) if build in self._measured else ():
                if evaluation.figures:
                    found.setdefault(evaluation.suite, _reading(evaluation, evaluation.figures[0], short))
        return tuple(found[suite] for suite in sorted(found))


def moves(repo: Repository, before: Recipe, after: Recipe) -> tuple[FigureDiff, ...]:
    """The changes from one recipe to another, by the suites that both were measured by in the same dtype."""
    if repo.evaluations.is_empty or build_digest(before) == build_digest(after):
        return ()
    return tuple(
        replace(diff, dtype=short) for dtype, short in DTYPES.items() for diff in _moves(repo, before, after, dtype)
    )


def _moves(repo: Repository, before: Recipe, after: Recipe, dtype: str | None) -> Iterator[FigureDiff]:
    old = {(past.suite_digest, past.seed): past for past in repo.evaluations.of(build_digest(before, dtype))}
    for new in repo.evaluations.of(build_digest(after, dtype)):
        other = old.get((new.suite_digest, new.seed))
        if other is not None:
            yield from moved(other, new, new.seed)


def moved(before: Evaluation, after: Evaluation, seed: int) -> Iterator[FigureDiff]:
    """The changes of all numbers of a suite that both evaluations have."""
    for figure in after.figures:
        past = before.figure(figure.key)
        moved_by = change(figure, past, seed)
        if past is not None and moved_by is not None:
            interval = moved_by.low, moved_by.high, moved_by.verdict
            yield FigureDiff(after.suite, figure.measure, figure.name, past.value, figure.value, *interval)


def _reading(evaluation: Evaluation, figure: Figure, dtype: str | None) -> FigureReading:
    interval = figure.value, figure.low, figure.high
    return FigureReading(evaluation.suite, figure.measure, figure.name, figure.unit, figure.better, *interval, dtype)


def change(after: Figure, before: Figure | None, seed: int = 0) -> FigureChange | None:
    """The change from ``before`` to ``after``; None if they were not measured on the same examples."""
    from persona.evaluate.statistics import difference

    found = difference(after, before, seed) if before is not None else None
    if found is None:
        return None
    return FigureChange(
        found.value, found.low, found.high, _verdict(found.value, after.better, found.low, found.excludes_zero)
    )


def costs(
    after: Evaluation, before: Evaluation, seed: int, other_than: Collection[tuple[str, str]] = ()
) -> tuple[TrialFigure, ...]:
    """The numbers that are clearly worse than before, other than those named."""
    pairs = ((figure, change(figure, before.figure(figure.key), seed)) for figure in after.figures)
    return tuple(
        TrialFigure(figure.measure, figure.name, figure.value, figure.low, figure.high, moved_by)
        for figure, moved_by in pairs
        if moved_by is not None and moved_by.verdict == "worse" and figure.key not in other_than
    )


def _verdict(value: float, better: Better | None, low: float | None, certain: bool) -> str:
    if low is None:
        return "unknown"
    if not certain:
        return "same"
    if better is None:
        return "changed"
    return "better" if (value < 0) == (better == "lower") else "worse"
