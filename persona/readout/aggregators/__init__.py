"""Aggregators turn labelled activations into a direction. Each module in this folder is one, found by its name.

An aggregator's docstring begins `NAME: what it does (source, year).`, followed by the formula. It defines

    direction(sample)      fp64 [hidden], of any length but 0: the direction is normalized, and its length is kept as the
                           raw norm

and, if needed,

    NEEDS                  {module: package} of optional imports
    SCALES = False         if scaling all activations can change the direction

`tests/readout/test_aggregators.py` states the contract: positives project higher; adding an offset to all activations
changes nothing; neither does the order of texts, if pairs are given; randomness comes from the seed alone; one text per
side is enough; and identical sides raise `NoDirection`.

Activations are on disk, so an aggregator gets `Rows` and reads them in blocks.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from persona.errors import Refusal, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Float32

    Float64 = npt.NDArray[np.float64]

BLOCK = 256
"""Number of rows to read at a time."""


class NoDirection(Refusal):
    """An aggregator sees no difference between the two sides."""


class Rows(Protocol):
    """Activations [texts, hidden] in fp32, in memory or on disk."""

    def __len__(self) -> int:
        """Number of texts."""

    def __getitem__(self, rows: Any) -> Float32:
        """Some rows, [n, hidden], in the given order."""


ROUNDING = 2.0**-20
"""Relative difference that counts as rounding: eight units in the last place of fp32."""


@dataclass(frozen=True)
class Sample:
    """One concept at one layer.

    `pairs` are `(positive, negative)` row numbers. `seed` is for everything random. `components` is the number of neutral
    components that "whitened" removes, None for its default rule.
    """

    positive: Rows
    negative: Rows
    pairs: tuple[tuple[int, int], ...] = ()
    seed: int = 0
    components: int | None = None

    @cached_property
    def means(self) -> tuple[Float64, Float64]:
        """Mean of each side, positive first; cached, because rows may be on disk."""
        return mean_of(self.positive), mean_of(self.negative)

    @property
    def apart(self) -> Float64:
        """Difference of the means, positive minus negative."""
        positive, negative = self.means
        return positive - negative

    @property
    def is_paired(self) -> bool:
        """Whether every text is in exactly one pair."""
        ones, others = {a for a, _ in self.pairs}, {b for _, b in self.pairs}
        return len(ones) == len(self.positive) == len(others) == len(self.negative) == len(self.pairs)


class Aggregator(Protocol):
    """A module of this package."""

    def direction(self, sample: Sample) -> Float64:
        """The direction of the concept, of any length."""


def names() -> tuple[str, ...]:
    """Names of all aggregators, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def load(name: str) -> Aggregator:
    """Import an aggregator; raises UsageError if there is none of that name."""
    if name not in names():
        raise UsageError(f"unknown aggregator '{name}'", did_you_mean(name, names()))
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast("Aggregator", module)


def check_ready(name: str) -> None:
    """Raise UsageError if the aggregator is unknown, or needs a package that is not installed."""
    for module, package in getattr(load(name), "NEEDS", {}).items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(
                f"aggregator '{name}' needs {package}, which is not installed",
                f"Run: pip install 'persona-vcs[readout]', or: pip install {package}",
            )


def aggregate(name: str, sample: Sample) -> tuple[Float64, float]:
    """Compute a direction; return it with length 1, and its original length.

    Raises:
        NoDirection: both sides have the same activations.
    """
    import numpy as np

    same = NoDirection("both sides have the same activations", "Check the texts, or use another layer or aggregator.")
    if _are_level(sample):
        raise same
    direction = load(name).direction(sample)
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length) or length == 0:
        raise same
    return direction / length, length


def _are_level(sample: Sample) -> bool:
    """Whether the means differ by rounding only: the same text in another batch can differ in its last bits."""
    import numpy as np

    sides = sample.positive, sample.negative
    squares = sum(float(np.square(block, dtype=np.float64).sum()) for rows in sides for block in blocks(rows))
    usual = (squares / sum(map(len, sides))) ** 0.5
    return bool(np.linalg.norm(sample.apart) <= ROUNDING * usual)


def blocks(rows: Rows) -> Iterator[Float32]:
    """Yield all rows in order, `BLOCK` at a time."""
    for at in range(0, len(rows), BLOCK):
        yield rows[range(at, min(at + BLOCK, len(rows)))]


def mean_of(rows: Rows) -> Float64:
    """Mean of all rows in fp64, [hidden]."""
    import numpy as np

    return cast("Float64", sum(block.sum(0, dtype=np.float64) for block in blocks(rows)) / len(rows))


def pairing(sample: Sample) -> list[tuple[int, int]]:
    """The given pairs, plus random pairs in which each unpaired text occurs at least once."""
    import numpy as np

    chance = np.random.default_rng(sample.seed)
    ones = _lone({a for a, _ in sample.pairs}, len(sample.positive))
    others = _lone({b for _, b in sample.pairs}, len(sample.negative))
    if not ones and not others:
        return list(sample.pairs)
    ones, others = ones or [*range(len(sample.positive))], others or [*range(len(sample.negative))]
    count = max(len(ones), len(others))
    drawn = [np.resize(chance.permutation(side), count).tolist() for side in (ones, others)]
    return [*sample.pairs, *zip(*drawn, strict=True)]


def _lone(paired: set[int], count: int) -> list[int]:
    return [row for row in range(count) if row not in paired]


def deltas(sample: Sample, pairs: Sequence[tuple[int, int]]) -> Iterator[Float64]:
    """Yield δ = h⁺ − h⁻ of pairs, [n, hidden], `BLOCK` at a time."""
    import numpy as np

    for at in range(0, len(pairs), BLOCK):
        some = np.array(pairs[at : at + BLOCK])
        yield sample.positive[some[:, 0]].astype(np.float64) - sample.negative[some[:, 1]]


def components(parts: Iterator[Float64], count: int, hidden: int) -> tuple[Float64, Float64]:
    """Eigenvalues, largest first, and eigenvectors [k, hidden] of Σ xxᵀ over `count` rows x, uncentred.

    Uses the rows' Gram matrix [count, count] or their covariance [hidden, hidden], whichever is smaller.
    """
    import numpy as np

    if count <= hidden:
        rows = np.concatenate(list(parts))
        values, vectors = np.linalg.eigh(rows @ rows.T)
        vectors = (rows.T @ vectors).T
    else:
        total = np.zeros((hidden, hidden))
        for part in parts:
            total += part.T @ part
        values, vectors = np.linalg.eigh(total)
        vectors = vectors.T
    order = np.argsort(values)[::-1]
    keep = order[values[order] > max(values.max(), 0.0) * count * np.finfo(np.float64).eps]
    lengths = np.linalg.norm(vectors[keep], axis=1, keepdims=True)
    return values[keep], vectors[keep] / lengths
