"""The small parts of methods, by hand-worked numbers: draws, ranks, sums, angles, Gram matrices, low ranks, settings."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from persona.methods.parts import chance, gram, lowrank, parameters, ranks, spectrum, sphere
from persona.methods.parts.kinds import Coefficients
from persona.methods.parts.share import Share
from persona.methods.parts.sums import TILE, Dot
from persona.methods.parts.work import Piece, Work

DRAWN = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""SplitMix64 from seed 0: 0.883, 0.431, 0.026, 0.970 of 2⁶⁴."""

GOLDEN = 0x9E3779B97F4A7C15


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_draws_depend_on_the_key_and_the_place() -> None:
    assert chance.bits(0, 1, 3).tolist() == DRAWN[1:]
    assert chance.bits(GOLDEN, 0, 3).tolist() == DRAWN[1:], "one step of the generator"
    assert chance.bits(GOLDEN + (1 << 64), 0, 3).tolist() == DRAWN[1:], "keys have 64 bits"
    assert chance.bits(0, (1 << 64) - 1, 3).tolist() == [0, *DRAWN[:2]], "and places go around"
    assert chance.bits(0, 0, 0).tolist() == []
    assert chance.uniform(0, 1, 2).tolist() == [(one >> 11) / (1 << 53) for one in DRAWN[1:3]]
    assert chance.uniform(GOLDEN, 0, 1).tolist() == [(DRAWN[1] >> 11) / (1 << 53)]


def test_kept_are_those_whose_draw_is_below() -> None:
    assert chance.bound(0.75) == 3 << 62
    assert chance.kept(0, 0, 4, 0.5).tolist() == [False, True, True, False]
    assert chance.kept(0, 1, 3, 0.5).tolist() == [True, True, False]
    assert chance.kept(GOLDEN, 0, 3, 0.5).tolist() == [True, True, False]
    for certain in (1, 1.0, 1.5):
        every = chance.kept(0, 0, 4, certain)
        assert every.dtype == bool
        assert every.tolist() == [True] * 4
    # A draw that a float can be equal to: one of 2,048 has no bits beyond its first 53.
    drawn = chance.bits(0, 0, 20_000)
    place = int(np.flatnonzero(drawn & np.uint64(2047) == 0)[0])
    just = int(drawn[place]) / 2.0**64
    assert chance.kept(0, place, 1, just).tolist() == [False]
    assert chance.kept(0, place, 1, np.nextafter(just, 1)).tolist() == [True]


def test_ranks_are_those_of_each_row() -> None:
    rows = np.array([[3, -1, 2], [0.5, 0.5, -0.25], [-0.0, np.inf, np.nan]], np.float32)
    assert ranks.ranked(rows).tolist() == [[2, 0, 1], [1, 2, 0], [0, 1, 2]]
    assert ranks.ranked(rows).dtype == np.int64
    assert ranks.chances(rows, 0.5, 0.25).tolist() == [[0.75, 0.25, 0.5], [0.5, 0.75, 0.25], [0.25, 0.5, 0.75]]
    assert ranks.chances(rows[:, :2], 0.5, 0.25)[0].tolist() == [0.75, 0.25]
    assert ranks.chances(rows[:, :1], 0.5, 0.25).tolist() == [[0.5], [0.5], [0.5]]
    assert ranks.chances(np.zeros((0, 3), np.float32), 0.5, 0.25).shape == (0, 3)


def test_a_sum_of_blocks() -> None:
    dot = Dot()
    assert dot.value == 0
    assert isinstance(dot.value, float)
    dot.add(f32(1, 2, 3), f32(4, 5, -6))
    assert dot.value == 4 + 10 - 18
    dot.add(f32(2), f32(0.5))
    assert dot.value == -3
    alone = Dot()
    for block in (f32(1, 2), f32(), f32(-7)):
        alone.add(block, None)
    assert alone.value == -4
    fine = Dot()
    fine.add(f32(1 + 2**-23), f32(1 + 2**-23))
    assert fine.value == (1 + 2**-23) ** 2, "products are exact"


def test_a_sum_goes_tile_by_tile() -> None:
    """2⁵³ and 1 in the same tile lose the 1 or keep it by numpy's order; in two tiles, the 1 is always lost."""
    values = np.zeros(3 * TILE + 5, np.float32)
    values[TILE - 1], values[TILE], values[2 * TILE + 1], values[3 * TILE + 4] = 2.0**53, 1, 1, -(2.0**53)
    for block in (1000, TILE, TILE + 1, len(values)):
        dot = Dot()
        for at in range(0, len(values), block):
            dot.add(values[at : at + block], None)
        assert dot.value == 0
        dot.add(f32(3), None)
        assert dot.value in (3, 4), "the rest is one tile"
    assert TILE == 4096
    ones = Dot()
    for _ in range(3):
        ones.add(np.ones(5000, np.float32), np.full(5000, 0.5, np.float32))
    assert ones.value == 7500


def test_cosines() -> None:
    assert sphere.cosine(3, 4, 9) == 0.5
    assert sphere.cosine(-0.0625, 0.0625, 0.25) == -0.5
    assert [sphere.cosine(1, *lengths) for lengths in ((0, 1), (1, 0), (0, 0), (-1e-30, 1), (1, -1e-30))] == [0] * 5
    assert (sphere.cosine(1.5, 1, 1), sphere.cosine(-1.5, 1, 1)) == (1, -1), "rounding takes it out of range"


def test_arcs() -> None:
    half = sphere.arc(0.5, 0)
    assert half == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)), rel=1e-15)
    # 60°: sin 45° and sin 15° over sin 60°.
    degree = math.pi / 180
    wanted = [math.sin(angle * degree) / math.sin(60 * degree) for angle in (45, 15)]
    assert sphere.arc(0.25, 0.5) == pytest.approx(wanted, rel=1e-12)
    assert sphere.arc(0.25, -0.5) == pytest.approx((2 / math.sqrt(3), 1 / math.sqrt(3))), "sin 90° and sin 30°"
    for straight in (1.0, -1.0):
        assert sphere.arc(0.25, straight) == (0.75, 0.25)
    assert sphere.arc(0, 0.3) == pytest.approx((1, 0))
    assert sphere.arc(1, 0.3) == pytest.approx((0, 1))


def blocks(*rows: np.ndarray, shares: tuple[Share, ...], size: int) -> Work:
    """A tensor of W_base and some τ."""

    def pieces() -> Iterator[Piece]:
        for at in range(0, len(rows[0]), size):
            base, *deltas = (row[at : at + size].copy() for row in rows)
            yield Piece(at, base, deltas)

    return Work("w", rows[0].shape, shares, {}, lambda number: iter([rows[number + 1]]), pieces)


def test_a_gram_matrix_has_the_base_first() -> None:
    rows = (f32(1, 2, 0), f32(3, 0, -1), f32(0, 5, 2))
    for size in (1, 2, 3):
        found = gram.gram(blocks(*rows, shares=(Share(1.0), Share(-2.0)), size=size))
        assert found == [[5, 3, 10], [3, 10, -2], [10, -2, 29]], "alphas are no part of it"


def test_tensors_are_weighed_and_added() -> None:
    def piece() -> Piece:
        return Piece(0, f32(10, 20), [f32(1, 2), f32(-3, 4)])

    assert gram.weighted(piece(), Coefficients(0.0, [2.0, -0.5])).tolist() == [3.5, 2]
    found = gram.weighted(piece(), Coefficients(0.5, [2.0, -0.5]))
    assert found.tolist() == [8.5, 12]
    assert found.dtype == np.float32
    assert gram.weighted(Piece(0, f32(10), [f32(3)]), Coefficients(-1.0, [0.0])).tolist() == [-10]
    rounded = gram.weighted(Piece(0, f32(1), [f32(3), f32(2**-24)]), Coefficients(0.0, [0.1, 1.0]))
    assert rounded.tolist() == [float(f32(3)[0] * f32(0.1)[0] + f32(2**-24)[0])]
    with pytest.raises(ValueError, match="zip"):
        gram.weighted(piece(), Coefficients(0.0, [1.0]))
    with pytest.raises(AssertionError, match=r"^methods run only where a vector changes the tensor"):
        gram.weighted(Piece(0, f32(1), []), Coefficients(0.0, []))


def test_rows_of_a_low_rank_product() -> None:
    left, right = np.array([[1, 2], [3, -4], [0, 0.5]], np.float32), np.array([[1, 0, 2], [1, 1, -1]], np.float32)
    whole = [[1.5, 1, 0], [-0.5, -2, 5], [0.25, 0.25, -0.25]]  # half of L · R
    for start, stop in ((0, 3), (0, 1), (1, 3), (2, 3), (1, 1), (2, 1)):
        found = lowrank.delta_rows(left, right, 0.5, start, stop)
        assert found.dtype == np.float32
        assert found.shape == (max(0, stop - start), 3)
        assert found.tolist() == whole[start:stop]


def test_a_low_rank_product_may_overflow() -> None:
    """The same entry is +inf, and -inf added to it is NaN; neither is worth a warning."""
    left, right = np.array([[3e38, 3e38], [3e38, -3e38]], np.float32), np.full((2, 1), 10, np.float32)
    found = lowrank.delta_rows(left, right, 1.0, 0, 2)
    assert found[0] == np.inf
    assert np.isnan(found[1])


def test_settings_are_the_last_that_were_given_or_the_default() -> None:
    declared = {"density": parameters.DENSITY, "seed": parameters.SEED, "trim": parameters.TRIM}
    assert parameters.settings(declared) == {"density": 0.2, "seed": 0, "trim": "tensor"}
    found = parameters.settings(declared, {"density": 0.5, "seed": 7}, {"density": 0.7, "other": 1})
    assert found == {"density": 0.7, "seed": 7, "trim": "tensor"}
    assert list(found) == ["density", "seed", "trim"], "in the order of the declarations"


def test_a_tensor_knows_its_size() -> None:
    def of(*shape: int) -> tuple[int, int]:
        work = Work("w", shape, (), {}, lambda number: iter(()), lambda: iter(()))
        return work.entries, work.columns

    assert [of(2, 3), of(2, 3, 4), of(5), of(), of(0), of(7, 0)] == [(6, 3), (24, 4), (5, 5), (1, 1), (0, 1), (0, 0)]
    assert Share(1.0, 0, {"density": "0.5", "seed": 3}).number("density") == 0.5
    assert isinstance(Share(1.0, 0, {"seed": 3}).number("seed"), float)


def test_matrices_are_added_with_their_strengths() -> None:
    found = spectrum.added(
        [np.array([[1, 2]], np.float32), np.array([[0.1, 4]], np.float32)], [Share(2.0), Share(-0.5)]
    )
    assert found.dtype == np.float64
    assert found.tolist() == [[2 - float(np.float32(0.1)) / 2, 2]], "in fp64"
    with pytest.raises(ValueError, match="zip"):
        spectrum.added([np.ones((1, 1), np.float32)], [Share(1.0), Share(1.0)])


def test_directions_above_rounding() -> None:
    # Of a matrix with a side of 8: more than 8 · 2⁻²³ = 2⁻²⁰ of the largest.
    sigma = np.array([4, 1, 2.0**-17, 2.0**-18, 0])
    assert spectrum.above_rounding(sigma, 8) == 3
    assert spectrum.above_rounding(sigma, 4) == 4
    assert spectrum.above_rounding(np.zeros(3), 8) == 0
    assert spectrum.above_rounding(np.zeros(0), 8) == 0
    assert np.finfo(np.float32).eps == spectrum.ROUNDING


def test_the_strongest_directions() -> None:
    # Two rows at right angles, of length 5 and 2, and one that is nothing.
    matrix = np.array([[0, 0, 0, 2.0], [3, 0, 4, 0], [0, 0, 0, 0]])
    u, sigma, vt = spectrum.svd(matrix, max(matrix.shape))
    np.testing.assert_allclose(sigma, [5, 2])
    np.testing.assert_allclose(np.abs(u), [[0, 1], [1, 0], [0, 0]], atol=1e-15)
    np.testing.assert_allclose((u * sigma) @ vt, matrix, atol=1e-15)
    for most, left in ((0, 0), (1, 1), (2, 2), (3, 2), (None, 2)):
        u, sigma, vt = spectrum.svd(matrix, max(matrix.shape), most)
        assert (u.shape, sigma.shape, vt.shape) == ((3, left), (left,), (left, 4))
    # The larger side, 100, decides: 100 · 2⁻²³ is 1.19e-5.
    faint = np.zeros((2, 100))
    faint[0, 0], faint[1, 1] = 1, 1.1e-5
    assert len(spectrum.svd(faint, max(faint.shape))[1]) == 1
    assert len(spectrum.svd(faint.T, max(faint.T.shape))[1]) == 1
    faint[1, 1] = 1.3e-5
    assert len(spectrum.svd(faint, max(faint.shape))[1]) == len(spectrum.svd(faint.T, max(faint.T.shape))[1]) == 2


def test_many_directions_are_found_through_the_smaller_product() -> None:
    """70 strengths from 1 to 70 on permuted axes: all are found, strongest first, with orthonormal sides."""
    order = np.random.default_rng(0).permutation(70)
    wide = np.zeros((70, 90))
    wide[np.arange(70), order] = np.arange(1, 71)
    for matrix in (wide, wide.T, wide[:, :70]):
        u, sigma, vt = spectrum.svd(matrix, max(matrix.shape))
        np.testing.assert_allclose(sigma, np.arange(70, 0, -1), rtol=1e-12)
        np.testing.assert_allclose((u * sigma) @ vt, matrix, atol=1e-11)
        np.testing.assert_allclose(u.T @ u, np.eye(70), atol=1e-12)
    # The smallest side is 65, above ``FEW``: half of it is nothing.
    half = np.diag(np.arange(65.0) % 2)
    assert len(spectrum.svd(half, max(half.shape))[1]) == 32
    assert spectrum.svd(half, max(half.shape), 5)[0].shape == (65, 5)


def test_the_nearest_orthonormal_columns() -> None:
    # P Qᵀ keeps directions and makes lengths 1.
    np.testing.assert_allclose(spectrum.orthonormal(np.array([[0.0, -2], [5, 0]]), 2), [[0, -1], [1, 0]], atol=1e-15)
    np.testing.assert_allclose(spectrum.orthonormal(np.array([[3.0], [4], [0]]), 3), [[0.6], [0.8], [0]], atol=1e-15)
    np.testing.assert_allclose(
        spectrum.orthonormal(np.array([[3.0, 3, 0], [4, 4, 0]]), 2) @ [1, 1, 1], [0.6 * 2**0.5, 0.8 * 2**0.5]
    )
    # Of three columns the third is faint: below 40 · 2⁻²³ = 4.8e-6 of the first.
    for faint, rank in ((4e-6, 2), (6e-6, 3)):
        columns = np.zeros((40, 3))
        columns[0, 0], columns[1, 1], columns[2, 2] = 1, 0.5, faint
        for one in (columns, columns.T):
            assert np.trace(spectrum.orthonormal(one, len(one))) == pytest.approx(rank)
