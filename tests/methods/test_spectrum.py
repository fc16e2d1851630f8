"""Matrices that are decomposed through the smaller of AᵀA and AAᵀ: the same as by a full SVD."""

from __future__ import annotations

import numpy as np
import pytest

from persona.methods.parts import spectrum
from persona.methods.parts.share import Share
from tests.methods.by_rule import merged, wanted

SHAPES = [(100, 150), (150, 100), (70, 300), (65, 65), (64, 200)]
KINDS = ["full", "rank 3", "fading", "nothing"]


def matrix(shape: tuple[int, int], kind: str, seed: int) -> np.ndarray:
    """A τ: noise, an adapter's, one whose strengths fade over six decades, or none at all."""
    rng = np.random.default_rng(seed)
    rank = {"rank 3": 3, "nothing": 0}.get(kind, min(shape))
    left, right = rng.normal(0, 1, (shape[0], rank)), rng.normal(0, 1, (rank, shape[1]))
    if kind == "fading":
        left = left * np.logspace(0, -6, rank)
    return (1e-3 * left @ right).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_decomposition_gives_the_matrix_back(shape: tuple[int, int], kind: str) -> None:
    a = matrix(shape, kind, 0).astype(np.float64)
    u, sigma, vt = spectrum.svd(a, max(shape))
    exact = np.linalg.svd(a, compute_uv=False)
    assert len(sigma) == {"rank 3": 3, "nothing": 0}.get(kind, len(sigma))
    np.testing.assert_allclose(sigma, exact[: len(sigma)], rtol=1e-5, atol=exact[0] * 1e-9)
    np.testing.assert_allclose((u * sigma) @ vt, a, atol=max(exact[0], 1e-30) * max(shape) * 2**-23)
    np.testing.assert_allclose(u.T @ u, np.eye(len(sigma)), atol=1e-6)
    np.testing.assert_allclose(vt @ vt.T, np.eye(len(sigma)), atol=1e-6)


@pytest.mark.parametrize("kinds", [("full", "full"), ("rank 3", "full"), ("rank 3", "rank 3"), ("nothing", "full")])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["iso_c", "tsv_m"])
def test_large_matrices_are_the_reference(method: str, shape: tuple[int, int], kinds: tuple[str, str]) -> None:
    check_large(method, shape, kinds)


@pytest.mark.parametrize("kinds", [("rank 3", "full"), ("nothing", "full")])
@pytest.mark.parametrize("shape", [(100, 80), (70, 90)])
@pytest.mark.parametrize("method", ["wudi", "svc"])
def test_so_are_those_that_weigh_directions(method: str, shape: tuple[int, int], kinds: tuple[str, str]) -> None:
    check_large(method, shape, kinds)


def check_large(method: str, shape: tuple[int, int], kinds: tuple[str, str]) -> None:
    base = matrix(shape, "full", 9)
    taus = [matrix(shape, kind, number) for number, kind in enumerate(kinds)]
    shares = [Share(alpha, number) for number, alpha in enumerate((1.0, -0.7))]
    ours, theirs = (by(method, base, taus, shares, {}, *more) for by, more in ((merged, (4096,)), (wanted, ())))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=float(np.abs(theirs).max()) * 1e-5)
    assert np.linalg.norm(ours) > 0


def test_directions_that_fade_into_rounding_are_nobodys() -> None:
    """σ from 1 to 1e-9 of the largest: what is below σ₁ · 100 · 2⁻²³, about 1.2e-5, is left out."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(0, 1, (100, 80)))
    v, _ = np.linalg.qr(rng.normal(0, 1, (80, 80)))
    strengths = np.logspace(0, -9, 80)
    _, sigma, _ = spectrum.svd((u * strengths) @ v.T, 100)
    assert len(sigma) == int((strengths > 100 * 2**-23).sum())
