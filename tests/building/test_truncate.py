"""The nearest product of thin matrices: Eckart and Young, by torch's SVD; and what was planted is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from persona.building import truncate

UNIT = 2.0**-24
"""Half a unit in the last place of fp32's 1."""


def planted(rows: int, columns: int, rank: int, seed: int = 0) -> np.ndarray:
    entries = np.random.default_rng(seed)
    return (entries.standard_normal((rows, rank)) @ entries.standard_normal((rank, columns)) * 1e-3).astype(np.float32)


def noisy(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Singular values that fall slowly, as those of a real change do."""
    entries = np.random.default_rng(seed)
    short = min(rows, columns)
    falling = np.arange(1, short + 1) ** -0.7
    matrix = entries.standard_normal((rows, short)) * falling @ entries.standard_normal((short, columns))
    return (matrix * 1e-3).astype(np.float32)


SHAPES = [(40, 24), (24, 40), (1100, 1000)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_rank_is_found(shape: tuple[int, int]) -> None:
    """The entries of L · R are sums of r products of fp32 numbers: each may be off by a few units in the last place."""
    matrix = planted(*shape, 6)
    left, right = truncate.nearest(matrix, 6, "w")
    assert (left.shape, right.shape) == ((shape[0], 6), (6, shape[1]))
    error = truncate.residual_norm(matrix, left, right)
    assert error <= 4 * (6 + 2) * UNIT * np.linalg.norm(matrix)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_no_product_of_that_rank_is_nearer(shape: tuple[int, int]) -> None:
    matrix = noisy(*shape)
    singular = torch.linalg.svd(torch.from_numpy(matrix).double()).S
    left, right = truncate.nearest(matrix, 5, "w")
    exact = np.linalg.norm(matrix.astype(np.float64) - left.astype(np.float64) @ right.astype(np.float64))
    best = float(singular[5:].square().sum().sqrt())
    assert best * (1 - 1e-12) <= exact <= best * (1 + 1e-6)


def test_a_sketch_comes_close_to_the_best() -> None:
    """Halko et al., corollary 10.10: with q power iterations the excess shrinks as 1/(2q + 1); here q is 4."""
    matrix = noisy(1100, 1000)
    assert matrix.size > truncate.SMALL
    singular = torch.linalg.svdvals(torch.from_numpy(matrix).double())
    best = float(singular[8:].square().sum().sqrt())
    found = truncate.residual_norm(matrix, *truncate.nearest(matrix, 8, "w"))
    assert best * (1 - 1e-6) <= found <= best * 1.01


def test_the_same_name_gives_the_same_factors() -> None:
    matrix = noisy(1100, 1000)
    one, two = truncate.nearest(matrix, 4, "w"), truncate.nearest(matrix, 4, "w")
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_product_is_truncated_without_being_made() -> None:
    entries = np.random.default_rng(1)
    left, right = entries.standard_normal((30, 12)), entries.standard_normal((12, 20))
    found = truncate.nearest_product(left, right, 4)
    singular = torch.linalg.svdvals(torch.from_numpy(left @ right))
    exact = np.linalg.norm(left @ right - found[0].astype(np.float64) @ found[1].astype(np.float64))
    best = float(singular[4:].square().sum().sqrt())
    assert best * (1 - 1e-12) <= exact <= best * (1 + 1e-6)
    assert truncate.product_norm(left, right) == pytest.approx(float(singular.square().sum().sqrt()), rel=1e-12)


def test_more_rank_than_there_is() -> None:
    matrix = noisy(3, 7)
    left, right = truncate.nearest(matrix, 64, "w")
    assert left.shape == (3, 3)
    assert truncate.residual_norm(matrix, left, right) <= 20 * UNIT * np.linalg.norm(matrix)


def test_squares_that_leave_the_range_of_fp32() -> None:
    matrix = noisy(1100, 1000) * np.float32(1e-30)
    found = truncate.residual_norm(matrix, *truncate.nearest(matrix, 8, "w"))
    assert 0 < found < truncate.norm(matrix)
