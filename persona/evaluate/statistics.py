"""Means over examples, and their confidence intervals.

A figure is a ratio of sums, R = Σ tᵢ / Σ cᵢ over examples i (losses and tokens, matches and tokens), because examples differ in
length. Its interval is the percentile bootstrap over examples (Efron 1979): draw as many examples as there are, with replacement,
a thousand times, and take the 2.5 % and 97.5 % quantiles of R. Two builds measured on the same examples are compared in pairs:
both ratios of a draw use the same examples, so that an example's difficulty cancels out of the difference.

Where each example passes or fails (tᵢ is 0 or 1, cᵢ is 1), R is a share p of n, and a bootstrap of four passes of four would be
1 … 1. Such intervals are Wilson's (1927), with z = 1.96:

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

and the difference of two shares on the same examples has Newcombe's (1998, Statistics in Medicine 17:2635, method 10): from the two
Wilson intervals, and φ, the correlation of the two outcomes.
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
Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

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


def ratio(totals: Sequence[float], counts: Sequence[float], seed: int = 0, unit: str = "share") -> Interval:
    """Σ ``totals`` / Σ ``counts`` and its interval; ``seed`` draws the examples."""
    value = _sum(totals) / _sum(counts)
    if len(totals) < FEWEST:
        return Interval(value, None, None)
    if _are_outcomes(totals, counts, unit):
        return Interval(value, *wilson(round(sum(totals)), len(totals)))
    return Interval(value, *_quantiles(_drawn([(totals, counts)], seed)))


_SCALES = ("std", "nats/token", "tokens")
"""Units of which 0 and 1 are numbers like others."""


def _are_outcomes(totals: Sequence[float], counts: Sequence[float], unit: str) -> bool:
    """Whether each example passes or fails."""
    return unit not in _SCALES and set(totals) <= {0.0, 1.0} and set(counts) == {1.0}


def wilson(passed: int, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share ``passed`` / ``number``."""
    p, z2 = passed / number, Z * Z / number
    half = Z * math.sqrt(p * (1 - p) / number + z2 / (4 * number))
    low, high = ((p + z2 / 2 + sign * half) / (1 + z2) for sign in (-1, 1))
    return 0.0 if passed == 0 else low, 1.0 if passed == number else high


def paired(after: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """Newcombe's 95 % interval of the difference of two shares of the same examples, each 0 or 1."""
    number = len(after)
    both = sum(a == b == 1 for a, b in zip(after, before, strict=True))
    neither = sum(a == b == 0 for a, b in zip(after, before, strict=True))
    new, old = round(sum(after)), round(sum(before))
    p, q = new / number, old / number
    (p_low, p_high), (q_low, q_high) = wilson(new, number), wilson(old, number)
    margins = new * (number - new) * old * (number - old)
    agree = float(both * neither - (new - both) * (old - both))
    agree = max(agree - number / 2, 0.0) if agree > 0 else agree  # continuity correction
    phi = agree / math.sqrt(margins) if margins else 0.0
    return p - q - _apart(p - p_low, q_high - q, phi), p - q + _apart(p_high - p, q - q_low, phi)


def _apart(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


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
    if all(_are_outcomes(one.totals, one.counts, one.unit) for one in (after, before)):
        return Interval(value, *paired(after.totals, before.totals))
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
