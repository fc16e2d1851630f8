"""The sums of the interference report on a few entries, worked by hand, and on many, in any blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from persona.methods.parts import family
from persona.methods.parts.interference import SignSums, balance, measure
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import Share
from persona.methods.parts.work import Piece, Work

TRIM = Family("trim", "elect")


def sums(
    base: Sequence[float],
    taus: Sequence[Sequence[float]],
    alphas: Sequence[float],
    density: float,
    block: int = 64,
    advance: Callable[[int], None] = lambda entries: None,
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
        return measure(work, family.prepare(TRIM, work), len(taus), advance)


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


def test_it_does_not_matter_which_of_three_vectors_meet() -> None:
    # Entry 0: - + +; entry 1: + 0 +; entry 2: + - 0. All have two, and in the first and the third signs differ.
    taus = [[-1, 1, 1], [1, 0, -1], [1, 1, 0]]
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        one = sums([1, 1, 1], [taus[place] for place in order], [1, 1, 1], 1)
        assert (one.plain.shared, one.plain.conflicting) == (3, 2)
        assert (one.trimmed.shared, one.trimmed.conflicting) == (3, 2)


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


def test_each_block_is_reported_when_it_is_done() -> None:
    done: list[int] = []
    sums(BASE, [T1, T2], [1, -2], 0.5, 4, done.append)
    assert done == [4, 2]


def test_without_a_vote_there_are_lengths() -> None:
    one = sums(BASE, [T1], [], 1)
    assert (one.base, one.gram) == (9, [[82]])
    assert (one.mass, one.elected_mass, one.elected) == ([], [], [])
    assert (one.plain.both, one.plain.opposed, one.plain.shared, one.plain.conflicting) == ([], [], 0, 0)


def test_sides_are_added_up_apart() -> None:
    """P + N in fp32: half a unit in the last place is lost beside 1, on either side."""
    tiny, shares = 2.0**-24, ([1, -3, 0, 1, -1], [2.0**-24, 2, 0, -1, -(2.0**-24)], [2.0**-24, 0.5, 0, -2, -(2.0**-24)])
    found = balance([np.array(values, np.float32) for values in shares])
    assert found.dtype == np.float32
    assert found.tolist() == [1, -0.5, 0, -2, -1]
    first = np.array([tiny, -1], np.float32)
    assert balance([first, first, np.array([1, 0], np.float32)]).tolist() == [1 + 2**-23, -2]
    assert first.tolist() == [tiny, -1], "which leaves them alone"


def test_a_ranked_or_random_trim_knows_its_place() -> None:
    """DELLA's and DARE's: keys and rows matter, so two blocks come to what one does, with vectors of two keys."""
    for kind in ("random", "ranked"):
        given = {"density": 0.5, "epsilon": 0.4, "rescale": "none"}
        taus = np.random.default_rng(3).normal(size=(2, 40)).astype(np.float32)
        shares = tuple(Share(alpha, 7 + number, given) for number, alpha in enumerate((1.0, -0.5)))

        def pieces(block: int, taus: np.ndarray = taus) -> Iterator[Piece]:
            for at in range(0, 40, block):
                yield Piece(
                    at,
                    np.ones(len(taus[0, at : at + block]), np.float32),
                    [tau[at : at + block].copy() for tau in taus],
                )

        found = []
        for block in (10, 40):
            work = Work("w", (8, 5), shares, {}, lambda number: iter(()), lambda block=block: pieces(block))  # type: ignore[misc]
            found.append(measure(work, family.prepare(Family(kind, "elect"), work), 2, lambda entries: None))
        assert found[0] == found[1]
        left = [
            family.sparse(tau.copy(), share, how, 0, 5)
            for tau, share, how in zip(taus, shares, family.prepare(Family(kind, "elect"), work), strict=True)
        ]
        assert [found[0].trimmed.both[n][n] for n in (0, 1)] == [np.count_nonzero(one) for one in left]
        np.testing.assert_allclose(found[0].mass, [np.abs(left[0]).sum(), np.abs(left[1]).sum() / 2], rtol=1e-6)
