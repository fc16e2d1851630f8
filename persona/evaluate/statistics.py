"""Means over examples, and their confidence intervals.

A figure is a ratio of sums, R = Σ tᵢ / Σ cᵢ over examples i (losses and tokens, matches and tokens), because examples differ in
length. Its interval is the percentile bootstrap over examples (Efron 1979): draw as many examples as there are, with replacement,
a thousand times, and take the 2.5 % and 97.5 % quantiles of R. Two builds measured on the same examples are compared in pairs:
both ratios of a draw use the same examples, so that an example's difficulty cancels out of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.ids import draw_key

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.history.evaluations import Figure

    Floats = npt.NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
FEWEST = 2
"""Fewest examples for which there is an interval."""

_AT_ONCE = 1 << 20
"""Drawn examples held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval, None if there are too few examples."""

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def ratio(totals: Sequence[float], counts: Sequence[float], seed: int = 0) -> Interval:
    """Σ ``totals`` / Σ ``counts`` and its interval; ``seed`` draws the examples."""
    value = _sum(totals) / _sum(counts)
    if len(totals) < FEWEST:
        return Interval(value, None, None)
    return Interval(value, *_quantiles(_drawn([(totals, counts)], seed)))


def _sum(values: Sequence[float]) -> float:
    """The exact sum, or the plain float sum if there is no exact one (overflow, infinities of both signs)."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return float(sum(values))


def difference(after: Figure, before: Figure, seed: int = 0) -> Interval | None:
    """R of ``after`` minus R of ``before``, paired; None if they were not measured on the same examples."""
    if len(after.totals) != len(before.totals) or after.key != before.key:
        return None
    value = after.value - before.value
    if len(after.totals) < FEWEST:
        return Interval(value, None, None)
    pairs = [(after.totals, after.counts), (before.totals, before.counts)]
    return Interval(value, *_quantiles(_drawn(pairs, seed)))


def _drawn(figures: Sequence[tuple[Sequence[float], Sequence[float]]], seed: int) -> Floats:
    """R of one figure, or R of the first minus R of the second, for each draw: fp64 [RESAMPLES]."""
    import numpy as np

    number = len(figures[0][0])
    random = np.random.default_rng(draw_key("bootstrap", str(seed), str(number)))
    arrays = [(np.asarray(totals, float), np.asarray(counts, float)) for totals, counts in figures]
    found, step = [], max(1, _AT_ONCE // number)
    for start in range(0, RESAMPLES, step):
        rows = random.integers(0, number, (min(step, RESAMPLES - start), number))
        with np.errstate(all="ignore"):
            ratios = [totals[rows].sum(1) / counts[rows].sum(1) for totals, counts in arrays]
        found.append(ratios[0] - ratios[1] if len(ratios) == 2 else ratios[0])
    return np.concatenate(found)


def _quantiles(values: Floats) -> tuple[float | None, float | None]:
    import numpy as np

    sound = values[np.isfinite(values)]
    if len(sound) < len(values):
        return None, None
    low, high = np.quantile(sound, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
