"""gain: how much of what each vector does alone is left in a recipe.

    share of v = (B − M) / (B − S)

where B, S and M are one number of a suite for the base, for base + α·τ_v, and for the recipe: 1 means that the merge keeps all that
the vector does alone, at its alpha in the present recipe. The number is the first of the measure that is named after the vector. On
the same examples i it is a ratio of sums, Σ (bᵢ − mᵢ) / Σ (bᵢ − sᵢ), and has the interval of such
(:mod:`persona.evaluate.statistics`).

    gain mean    the mean of all shares, with the vectors' own effects taken as known
    gain least   the smallest share
    gain NAME    the share of one vector
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from persona.errors import UsageError
from persona.evaluate.evaluator import BASE, Evaluator, base_of, find_figure, same_figure
from persona.evaluate.results import change
from persona.history.evaluations import Evaluation, Figure
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe

MEASURE, MEAN, LEAST = "gain", "mean", "least"


def is_named(names: Iterable[str], now: Evaluation) -> bool:
    """Whether ``names`` of numbers ask for the gain, and not for a measure of the suite that has this name."""
    own = any(figure.measure == MEASURE for figure in now.figures)
    return not own and any(name.partition(" ")[0] == MEASURE for name in names)


@dataclass(frozen=True)
class OwnEffect:
    """One vector's number for the base and for the vector alone."""

    vector: str
    base: Figure
    alone: Figure

    @property
    def counts(self) -> tuple[float, ...]:
        """bᵢ − sᵢ of each example."""
        return _less(self.base, self.alone)


class Gain:
    """Adds the numbers of the gain to evaluations by the first suite of ``evaluator``.

    ``notes`` names the vectors whose gain is not known.

    Raises:
        UsageError: no measure is named after an active vector, or a vector has no clear effect alone.
    """

    def __init__(self, evaluator: Evaluator, recipe: Recipe, seed: int) -> None:
        self._seed = seed
        suites = evaluator.suites[:1]
        base = evaluator.of(base_of(recipe), BASE, suites=suites)[0]
        acting = [entry for entry in recipe.vectors if alphas.acts(entry.alpha)]
        measures = {figure.measure for figure in base.figures}
        known = [entry for entry in acting if entry.name in measures]
        if not known:
            raise UsageError(
                f"no measure of {base.suite} is named after a vector, so there is no gain",
                'Name the measure of what a vector has learnt after the vector: name = "VECTOR".',
            )
        self.notes = tuple(
            f"{entry.name} does not count for gain: no measure of {base.suite} has its name"
            for entry in acting
            if entry not in known
        )
        self._effects = tuple(self._effect(evaluator, recipe, entry, base) for entry in known)

    def _effect(self, evaluator: Evaluator, recipe: Recipe, entry: Entry, base: Evaluation) -> OwnEffect:
        alone = Recipe(recipe.base, recipe.base_name, (replace(entry, parameters={}),))
        measured = evaluator.of(alone, entry.name, suites=evaluator.suites[:1])[0]
        before = find_figure(base, entry.name)
        after = same_figure(measured, before.key)
        moved = change(after, before, self._seed)
        if moved is None or moved.verdict in ("same", "unknown"):
            raise UsageError(
                f"{entry.name} alone does not clearly change '{entry.name}', so there is no gain to keep",
                "Give the measure more examples, or ones of what the vector has learnt.",
            )
        return OwnEffect(entry.name, before, after)

    def added(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with the numbers of the gain at its end."""
        shares = [self._share(effect, evaluation) for effect in self._effects]
        least = min(shares, key=lambda share: share.value)
        found = (self._mean(evaluation), replace(least, name=LEAST), *shares)
        return replace(evaluation, figures=(*evaluation.figures, *found))

    def _share(self, effect: OwnEffect, evaluation: Evaluation) -> Figure:
        left = _less(effect.base, same_figure(evaluation, effect.base.key))
        return _figure(effect.vector, left, effect.counts, self._seed)

    def _mean(self, evaluation: Evaluation) -> Figure:
        totals = tuple(self._parts(evaluation))
        return _figure(MEAN, tuple(part * len(totals) for part in totals), (1.0,) * len(totals), self._seed)

    def _parts(self, evaluation: Evaluation) -> Iterator[float]:
        """What each example adds to the mean share."""
        for effect in self._effects:
            whole = sum(effect.counts) * len(self._effects)
            yield from (part / whole for part in _less(effect.base, same_figure(evaluation, effect.base.key)))


def _less(one: Figure, other: Figure) -> tuple[float, ...]:
    """Differences of each example's total; both must have counted the same."""
    if one.counts != other.counts:
        raise UsageError(
            f"'{one.measure}' counts other tokens for each build, so it has no gain", "Use a measure of fixed texts."
        )
    return tuple(a - b for a, b in zip(one.totals, other.totals, strict=True))


def _figure(name: str, totals: tuple[float, ...], counts: tuple[float, ...], seed: int) -> Figure:
    from persona.evaluate.statistics import ratio

    if all(count <= 0 for count in counts):  # higher is better: the same ratio, and outcomes stay 0 or 1
        totals, counts = tuple(-total for total in totals), tuple(-count for count in counts)
    found = ratio(totals, counts, seed)
    return Figure(MEASURE, name, "higher", "share", found.value, found.low, found.high, totals, counts)
