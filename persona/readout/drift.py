"""Measure how far projections of the same texts moved between two models.

    shift = mean_i (b_i − a_i) / s_a

where a_i and b_i are the projections of text i in the two models, at one layer along one direction, and s_a is the
standard deviation of the a_i. The texts are paired, so the interval is Student's t for the mean difference, with s_a
treated as known.

With many concepts and layers, some seem to move by chance. A concept has *moved* if its interval at level
1 − 0.05 / (concepts × layers) excludes 0 (Bonferroni) and the shift is at least `NOTABLE`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.readout.model import Readout
from persona.store.readouts import layers_text

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

NOTABLE = 0.2
"""Smallest shift worth reporting, in standard deviations: a "small effect" (Cohen 1988)."""

ERROR_RATE = 0.05


@dataclass(frozen=True)
class ReadoutShift:
    """How far the mean projection of a concept at a layer moved.

    `before` and `after` are the means in the two models and `std` is the standard deviation over the texts in the
    first, all in raw units. `shift` is the difference in units of `std`; `low` and `high` are its 95 % interval. All
    three are NaN if every text has the same projection in the first model. `moved` is true if the shift is at least
    0.2 and significant after correction for the number of concepts and layers.
    """

    concept: str
    layer: int
    before: float
    after: float
    std: float
    shift: float
    low: float
    high: float
    moved: bool


def shifts(readout: Readout, before: Float32, after: Float32) -> tuple[ReadoutShift, ...]:
    """Compare raw projections [texts, concepts, layers] of the same texts in two models.

    Raises:
        UsageError: there are fewer than two texts.
    """
    texts, concepts, layers = before.shape
    if texts < 2:
        raise UsageError(f"drift needs at least two texts, got {texts}", "Add texts to the file.")
    single, corrected = (t_quantile(1 - ERROR_RATE / 2 / tests, texts - 1) for tests in (1, concepts * layers))
    return tuple(
        _shift(name, layer, before[:, row, column], after[:, row, column], single, corrected)
        for row, name in enumerate(readout.concepts)
        for column, layer in enumerate(readout.layers)
    )


def _shift(concept: str, layer: int, before: Float32, after: Float32, single: float, corrected: float) -> ReadoutShift:
    """Compare [texts] with [texts]; `single` and `corrected` are t quantiles for the interval and for `moved`."""
    import numpy as np

    a, b = before.astype(np.float64), after.astype(np.float64)
    std = float(a.std(ddof=1))
    means = (float(a.mean()), float(b.mean()))
    if std == 0:
        return ReadoutShift(concept, layer, *means, std, math.nan, math.nan, math.nan, moved=False)
    differences = (b - a) / std
    shift, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(a))
    moved = abs(shift) > corrected * error and abs(shift) >= NOTABLE
    return ReadoutShift(concept, layer, *means, std, shift, shift - single * error, shift + single * error, moved)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t for a `probability` above ½, by bisection."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return high


def t_within(value: float, freedom: int) -> float:
    """Probability that Student's t is within ± `value` (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    if freedom > 1000:
        return math.erf(value / math.sqrt(2))
    angle = math.atan2(value, math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):  # the next term is this one times cos² · k / (k + 1)
        total += term
        term *= square * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def best_layers(readout: Readout) -> dict[str, int]:
    """The layer at which each concept was best separated in training, for concepts of which the manifest says it."""
    best = readout.about.get("best")
    if not isinstance(best, list) or len(best) != len(readout.concepts):
        return {}
    pairs = zip(readout.concepts, best, strict=True)
    return {concept: layer for concept, layer in pairs if isinstance(layer, int) and layer in readout.layers}


def in_words(shifts: Sequence[ReadoutShift], best: Mapping[str, int]) -> str:
    """Summarize in one sentence which concepts moved at their best layers, and which at other layers only.

    A concept without a `best` layer counts at the layer where it moved most.
    """
    by_size = sorted((shift for shift in shifts if shift.moved), key=lambda shift: -abs(shift.shift))
    moved: dict[str, ReadoutShift] = {}
    for shift in by_size:
        if best.get(shift.concept, shift.layer) == shift.layer:
            moved.setdefault(shift.concept, shift)
    elsewhere: dict[str, list[int]] = {}
    for shift in by_size:
        if shift.concept not in moved:
            elsewhere.setdefault(shift.concept, []).append(shift.layer)
    concepts = len({shift.concept for shift in shifts})
    parts = [_moved(shift, best) for shift in moved.values()]
    rest = concepts - len(moved) - len(elsewhere)
    others = [
        f"{concept} moved at {layers_text(layers)}, but not at its best, {best[concept]}"
        for concept, layers in elsewhere.items()
    ]
    if not parts and not others:
        what = "The concept did not move" if concepts == 1 else f"None of the {concepts} concepts moved"
        return f"{what} by {NOTABLE} standard deviations or more."
    tail = [f"the other {rest} did not move by {NOTABLE} or more"] if rest else []
    return f"{'; '.join([', '.join([*parts, *others]), *tail])}."


def _moved(shift: ReadoutShift, best: Mapping[str, int]) -> str:
    which = ", its best" if best.get(shift.concept) == shift.layer else ""
    return (
        f"{shift.concept} {'rose' if shift.shift > 0 else 'fell'} by {abs(shift.shift):.2f} standard deviations at layer "
        f"{shift.layer}{which} ({shift.low:+.2f} to {shift.high:+.2f})"
    )
