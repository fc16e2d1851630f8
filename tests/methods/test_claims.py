"""What TIES is for, and what it costs, on vectors whose right answer is known because it was planted.

The figures stand in ``docs/methods.md``; the tests ask only for inequalities with wide room.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from tests.docs.session import ROOT
from tests.methods.by_rule import merged, shares_of

ENTRIES = 100_000
FIFTH = ENTRIES // 20
"""Of the entries that a vector's own task needs, which are a fifth of all: 20 % = 4 × 5 %."""

DENSITY = {"density": 0.2}
MERGES = {
    "linear, 1 each": ("linear", 1.0, {}),
    "linear, ½ each": ("linear", 0.5, {}),
    "ties": ("ties", 1.0, DENSITY),
}


class Planted(NamedTuple):
    """Two vectors and the merge that serves both tasks."""

    taus: list[np.ndarray]
    wanted: np.ndarray


def interfering() -> Planted:
    """Each task has its strong entries, of size 1; all the rest of a vector is noise of 0.3.

    10 % are one task's alone, 5 % both tasks' with one sign (both want 1, not 2), and in 5 % the first wants ±1 where
    the second drifted 0.6 the other way.
    """
    rng = np.random.default_rng(0)
    places = rng.permutation(ENTRIES)
    own, other, shared, conflict = np.split(places[: 6 * FIFTH], [2 * FIFTH, 4 * FIFTH, 5 * FIFTH])
    taus = [rng.normal(0, 0.3, ENTRIES).astype(np.float32) for _ in range(2)]
    signs, wanted = rng.choice([-1.0, 1.0], ENTRIES).astype(np.float32), np.zeros(ENTRIES, np.float32)
    for places, sizes in ((own, (1, None)), (other, (None, 1)), (shared, (1, 1)), (conflict, (1, -0.6))):
        wanted[places] = signs[places]
        for tau, size in zip(taus, sizes, strict=True):
            if size is not None:
                tau[places] = np.float32(size) * signs[places]
    return Planted(taus, wanted)


def independent() -> Planted:
    """Two tasks that need all their entries and have nothing to do with each other: the sum serves both."""
    rng = np.random.default_rng(1)
    taus = [rng.normal(0, 1, ENTRIES).astype(np.float32) for _ in range(2)]
    return Planted(taus, taus[0] + taus[1])


def scores(planted: Planted, name: str) -> tuple[float, float]:
    """Cosine to the planted merge, and mean squared error as a share of its mean square."""
    method, alpha, given = MERGES[name]
    shares = shares_of(method, [alpha, alpha], given)
    found = merged(method, planted.wanted * 0, planted.taus, shares, given, 1 << 17).astype(np.float64)
    wanted = planted.wanted.astype(np.float64)
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    return float(cosine), float(((found - wanted) ** 2).mean() / (wanted**2).mean())


def test_ties_finds_what_interference_hides() -> None:
    planted = interfering()
    cosine, error = scores(planted, "ties")
    for name in ("linear, 1 each", "linear, ½ each"):
        other_cosine, other_error = scores(planted, name)
        assert cosine > other_cosine + 0.05
        assert error < other_error / 2


def test_and_costs_where_there_is_none() -> None:
    planted = independent()
    assert scores(planted, "linear, 1 each")[1] < 1e-12
    assert scores(planted, "ties")[0] < 0.9
    assert scores(planted, "ties")[1] > 0.2


@pytest.mark.parametrize("name", MERGES)
def test_the_page_says_what_was_measured(name: str) -> None:
    figures = [figure for planted in (interfering(), independent()) for figure in scores(planted, name)]
    row = f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |"
    assert row in (ROOT / "docs" / "methods.md").read_text()
