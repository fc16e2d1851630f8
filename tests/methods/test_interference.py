"""The sums of the interference report on a few entries, worked by hand, and on many, in any blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from persona.methods.parts import family
from persona.methods.parts.interference import SignSums, measure
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import Share
from persona.methods.parts.work import Piece, Work

TRIM = Family("trim", "elect")


def sums(
    base: Sequence[float], taus: Sequence[Sequence[float]], alphas: Sequence[float], density: float, block: int = 64
) -> SignSums:
    """Of all τ; those beyond the alphas are what once was."""
    arrays = [np.array(values, np.float32) for values in (base, *taus)]

    def pieces() -> Iterator[Piece]:
        for at in range(0, len(base), block):
            w, *deltas = (array[at : at + block].copy() for array in arrays)
            yield Piece(at, w, deltas)

    def tau(number: int) -> Iterator[np.ndarray]:
        for at in range(0, len(base), block):
            yield arrays[number + 1][at : at + block].copy()

    shares = tuple(Share(alpha, 1 + number, {"density": density}) for number, alpha in enumerate(alphas))
    work = Work("w", (len(base),), shares, {}, tau, pieces)
    with np.errstate(all="ignore"):
        return measure(work, family.prepare(TRIM, work), len(taus), lambda entries: None)


# α₁ = 1, α₂ = -2; half of six entries is three.
#   τ₁ = [6, -5,  4,  1, 2, 0]      v₁ = [6, -5,  4, 1,  2,  0]      v̂₁ = [6,  -5, 4, 0, 0, 0]
#   τ₂ = [1,  5, -6, -4, 2, 3]      v₂ = [-2, -10, 12, 8, -4, -6]    v̂₂ = [0, -10, 12, 8, 0, 0]
BASE = [2.0, 0, 0, 2, 1, 0]
T1, T2 = [6.0, -5, 4, 1, 2, 0], [1.0, 5, -6, -4, 2, 3]


@pytest.fixture
def two() -> SignSums:
    return sums(BASE, [T1, T2], [1, -2], 0.5)


def test_lengths_and_products_are_those_of_tau(two: SignSums) -> None:
    assert two.base == 4 + 4 + 1
    # ⟨τ₁, τ₂⟩ = 6 - 25 - 24 - 4 + 4 + 0; alphas come in when tensors are added up, for each may have its own.
    assert two.gram == [[36 + 25 + 16 + 1 + 4, -43], [-43, 1 + 25 + 36 + 16 + 4 + 9]]


def test_signs_before_the_trim(two: SignSums) -> None:
    # Both are there in the first five; they differ in the first (6, -2) and the fifth (2, -4).
    assert two.plain.both == [[5, 5], [5, 6]]
    assert two.plain.opposed == [[0, 2], [2, 0]]
    assert (two.plain.shared, two.plain.conflicting) == (5, 2)


def test_signs_after_the_trim(two: SignSums) -> None:
    # Left are [6, -5, 4] and [-10, 12, 8] in the second to fourth: both in two, where the signs are the same.
    assert two.trimmed.both == [[3, 2], [2, 3]]
    assert two.trimmed.opposed == [[0, 0], [0, 0]]
    assert (two.trimmed.shared, two.trimmed.conflicting) == (2, 0)


def test_all_survives_where_nothing_is_opposed(two: SignSums) -> None:
    assert two.mass == two.elected_mass == [15, 30]
    assert two.elected == [3, 3]


def test_the_smaller_mass_is_outvoted() -> None:
    # The first entries: 6 - 2 > 0, v₂ loses its 2. The fifth: 2 - 4 < 0, v₁ loses its 2. v₂'s last has no rival.
    one = sums(BASE, [T1, T2], [1, -2], 1)
    assert one.trimmed == one.plain
    assert one.mass == [6 + 5 + 4 + 1 + 2, 2 + 10 + 12 + 8 + 4 + 6]
    assert one.elected_mass == [18 - 2, 42 - 2]
    assert one.elected == [5 - 1, 6 - 1]


def test_masses_that_are_equal_elect_nobody() -> None:
    one = sums([1, 1], [[3, 1], [-3, 1]], [1, 1], 1)
    assert one.mass == [4, 4]
    assert one.elected_mass == [1, 1]
    assert one.elected == [1, 1]


def test_three_vectors_count_an_entry_once() -> None:
    # Entry 0: + - -; entry 1: + + 0; entry 2: one alone. Two entries have at least two, in one of them signs differ.
    one = sums([1, 1, 1], [[1, 1, 1], [-1, 1, 0], [-1, 0, 0]], [1, 1, 1], 1)
    assert (one.plain.shared, one.plain.conflicting) == (2, 1)
    assert one.plain.both == [[3, 2, 1], [2, 2, 1], [1, 1, 1]]
    assert one.plain.opposed == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert one.elected == [2, 2, 1]  # 1 against 2: the first entry is minus


def test_what_once_was_has_lengths_and_no_vote() -> None:
    one = sums(BASE, [T1, T2], [1], 0.5)
    assert one.gram == [[82, -43], [-43, 91]]
    assert one.plain.both == [[5]]
    assert one.mass == one.elected_mass == [15]


def test_a_vector_alone_survives() -> None:
    one = sums(BASE, [T1], [-1], 0.5)
    assert one.elected_mass == one.mass == [15]
    assert (one.plain.shared, one.trimmed.shared, one.elected) == (0, 0, [3])


def test_a_nan_has_no_sign_and_spoils_sums_that_it_is_in() -> None:
    one = sums([1, 1], [[np.nan, 2], [1, 3]], [1, 1], 1)
    assert one.plain.both == [[1, 1], [1, 2]]
    assert np.isnan(one.gram[0][0])
    assert np.isnan(one.gram[0][1])
    assert one.gram[1][1] == 10
    assert np.isnan(one.mass[0])
    assert one.mass[1] == 4
    assert one.elected == [1, 1]  # who would have been elected beside a NaN, nobody knows


@pytest.mark.parametrize("density", [0.1, 1])
def test_sums_do_not_depend_on_where_blocks_end(density: float) -> None:
    made = np.random.default_rng(5)
    base = made.normal(size=9001).tolist()
    taus = made.normal(size=(4, 9001)).round(1).tolist()  # many are equal at an edge
    whole = sums(base, taus, [1, -0.3, 2.5], density, 9001)
    for block in (1000, 4096, 5003):
        assert sums(base, taus, [1, -0.3, 2.5], density, block) == whole
