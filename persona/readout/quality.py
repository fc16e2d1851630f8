"""Measure the quality of a direction: how well projections on it separate positives from negatives.

AUC      P(p > n) + ½ P(p = n) over projections p of positives and n of negatives, by ranks (Mann and Whitney)
interval 95 %: every θ with (AUC − θ)² ≤ z² V(θ), where, with N = (m + n)/2,
         V(θ) = θ(1−θ)/(mn) · [1 + (N − 1)((1−θ)/(2−θ) + θ/(1+θ))]
         (Newcombe 2006, method 5, from Hanley and McNeil 1982). It stays within 0 and 1, and is meaningful for few texts
         and for an AUC of 1, where DeLong's and the bootstrap's intervals shrink to a point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Float32

    Numbers = npt.NDArray[np.float64]

Z = 1.959963984540054
GOOD = 0.7
"""Below this AUC, a projection says little about a single text."""
ALIKE = 0.7
"""Concepts whose directions have a larger cosine, of either sign, are reported as a cluster."""


def auc(positive: Numbers, negative: Numbers) -> float:
    """Share of (positive, negative) pairs in which the positive is higher; ties count half."""
    import numpy as np

    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def interval(value: float, positive: int, negative: int) -> tuple[float, float]:
    """The 95 % interval of an AUC, from the numbers of positive and negative texts."""

    def inside(theta: float) -> bool:
        return (value - theta) ** 2 <= Z * Z * _variance(theta, positive, negative)

    return _edge(inside, value, 0.0), _edge(inside, value, 1.0)


def _variance(theta: float, positive: int, negative: int) -> float:
    half = (positive + negative) / 2 - 1
    return theta * (1 - theta) * (1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (positive * negative)


def _edge(inside: Any, within: float, end: float) -> float:
    """Find the end of an interval between `within`, which is inside, and `end`, by bisection."""
    for _ in range(60):
        middle = (within + end) / 2
        within, end = (middle, end) if inside(middle) else (within, middle)
    return min(max(within, 0.0), 1.0)


@dataclass(frozen=True)
class LayerQuality:
    """Quality of a concept's direction at a layer.

    `norm` is the length of the direction before normalization. `auc` is measured on held-out texts, with a 95 % interval
    from `low` to `high`. `control` is the mean AUC of random directions, each oriented so that positive training texts
    project higher; one in twenty reaches `control_high`. These are null if no texts are held out. `positives_higher` is
    true if positives project higher than negatives on average.
    """

    layer: int
    norm: float
    auc: float | None
    low: float | None
    high: float | None
    control: float | None
    control_high: float | None
    positives_higher: bool


def verdict(quality: LayerQuality | None, positive: int, negative: int) -> str | None:
    """Say why a concept should not be used, as a sentence without its name; None if there is no reason.

    Args:
        quality: Quality at the concept's best layer.
        positive: Number of held-out positive texts.
        negative: Number of held-out negative texts.
    """
    if quality is None or quality.auc is None or quality.low is None or quality.control_high is None:
        return "has too few texts to hold any out, so its quality is unknown"
    numbers = (
        f"AUC {quality.auc:.2f}, {quality.low:.2f} to {quality.high:.2f}, on {positive} + {negative} held-out texts"
    )
    if not quality.positives_higher:
        return f"is not worth using: held-out positives project no higher than negatives ({numbers})"
    if quality.auc < GOOD:
        return f"is not worth using: it barely separates positives from negatives ({numbers})"
    if quality.low <= 0.5:
        return f"is not worth using yet: with so few texts, this may be chance ({numbers})"
    if quality.control_high >= quality.auc and quality.auc < 1:
        return f"is not worth using: random directions do as well ({quality.control_high:.2f}; {numbers})"
    return None


def remark(quality: LayerQuality | None) -> str | None:
    """A caveat about a concept that is worth using, as a sentence without its name; None if there is none."""
    if quality is None or quality.auc is None or quality.control is None or quality.control < 0.9 * quality.auc:
        return None
    return (
        f"is separated by any direction (random ones reach {quality.control:.2f}): its texts may differ in more than "
        "the concept, such as length or source"
    )


@dataclass(frozen=True)
class ConceptCluster:
    """Concepts with similar or opposite directions; `cosine` is the largest one in size between any two of them."""

    concepts: tuple[str, ...]
    cosine: float


def cosines(vectors: Mapping[int, Float32]) -> Numbers:
    """Cosines between concepts [concepts, concepts], averaged over layers."""
    import numpy as np

    each = [rows.astype(np.float64) @ rows.astype(np.float64).T for rows in vectors.values()]
    mean: Numbers = np.mean(each, axis=0)
    return mean


def clusters(concepts: Sequence[str], between: Numbers) -> tuple[ConceptCluster, ...]:
    """Group concepts with cosines above `ALIKE` in size, by single linkage."""
    leader = list(range(len(concepts)))
    for one in range(len(concepts)):
        for other in range(one):
            if abs(between[one, other]) > ALIKE:
                old, new = leader[one], leader[other]
                leader = [new if lead == old else lead for lead in leader]
    members: dict[int, list[int]] = {}
    for row, lead in enumerate(leader):
        members.setdefault(lead, []).append(row)
    return tuple(_cluster(concepts, between, rows) for rows in members.values() if len(rows) > 1)


def _cluster(concepts: Sequence[str], between: Numbers, rows: Sequence[int]) -> ConceptCluster:
    pairs = [float(between[a, b]) for a in rows for b in rows if b < a]
    return ConceptCluster(tuple(concepts[row] for row in rows), max(pairs, key=abs))
