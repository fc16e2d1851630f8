"""How far projections of the same texts moved from one model to another.

    shift = mean_i (b_i − a_i) / s_a

for the projections a_i, b_i of text i in the two models, at one layer along one direction; s_a is the standard deviation
of the a_i, so that 1 is as far as texts lie apart in the model that is compared with. Texts are paired, so the interval is
that of the mean of differences (Student's t), with s_a taken as known.

Of many concepts and layers a few seem to move by chance: one has *moved* if its interval at a level of
1 − 0.05 / (concepts × layers) leaves out 0 (Bonferroni), and it moved by ``NOTABLE`` or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.readout.model import Readout

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

NOTABLE = 0.2
"""Standard deviations: what is called a small effect (Cohen 1988)."""

ERROR_RATE = 0.05


@dataclass(frozen=True)
class ReadoutShift:
    """How the mean projection of a concept at a layer moved, in standard deviations of the first model over the texts.

    ``before`` and ``after`` are the means, and ``std`` the standard deviation, in raw units; ``low`` and ``high`` are a
    95 % interval of ``shift``. Where all texts read the same there is no unit: ``shift`` and interval are NaN.
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
    """From raw projections [texts, concepts, layers] of the same texts in two models."""
    texts, concepts, layers = before.shape
    if texts < 2:
        raise UsageError(f"drift is measured over several texts, and there {_are(texts)}", "Give more texts.")
    one, all_ = (t_quantile(1 - ERROR_RATE / 2 / number, texts - 1) for number in (1, concepts * layers))
    return tuple(
        _shift(name, layer, before[:, row, column], after[:, row, column], one, all_)
        for row, name in enumerate(readout.concepts)
        for column, layer in enumerate(readout.layers)
    )


def _are(texts: int) -> str:
    return "is one" if texts else "are none"


def _shift(concept: str, layer: int, before: Float32, after: Float32, one: float, all_: float) -> ReadoutShift:
    import numpy as np

    a, b = before.astype(np.float64), after.astype(np.float64)
    std = float(a.std(ddof=1))
    means = (float(a.mean()), float(b.mean()))
    if std == 0:
        return ReadoutShift(concept, layer, *means, std, math.nan, math.nan, math.nan, moved=False)
    differences = (b - a) / std
    shift, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(a))
    moved = abs(shift) > all_ * error and abs(shift) >= NOTABLE
    return ReadoutShift(concept, layer, *means, std, shift, shift - one * error, shift + one * error, moved)


def t_quantile(probability: float, freedom: int) -> float:
    """Student's t: the value that is not exceeded with ``probability`` (above ½), by bisection of its distribution."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return high


def t_within(value: float, freedom: int) -> float:
    """The probability that Student's t lies within ± ``value`` (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
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


def in_words(found: Sequence[ReadoutShift]) -> str:
    """The concepts that moved, each at the layer where it moved most, in one sentence."""
    moved: dict[str, ReadoutShift] = {}
    for one in sorted((one for one in found if one.moved), key=lambda one: -abs(one.shift)):
        moved.setdefault(one.concept, one)
    concepts = len({one.concept for one in found})
    if not moved:
        what = "The concept" if concepts == 1 else f"None of the {concepts} concepts"
        return f"{what} {'did not move' if concepts == 1 else 'moved'} by {NOTABLE} standard deviations or more."
    said = [
        f"{one.concept} {'rose' if one.shift > 0 else 'fell'} by {abs(one.shift):.2f} standard deviations at layer "
        f"{one.layer} ({one.low:+.2f} to {one.high:+.2f})"
        for one in moved.values()
    ]
    rest = concepts - len(moved)
    tail = f"; the other {rest} did not move by {NOTABLE} or more" if rest else ""
    return f"{', '.join(said)}{tail}."
