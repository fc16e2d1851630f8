"""Thin factors merged by their cores: what the whole matrices give, and what numpy's own decompositions say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from persona import methods
from persona.errors import Refusal
from persona.methods.parts import core, rules
from persona.methods.parts.share import Share
from persona.methods.parts.work import Piece, Product, Work
from tests.methods.by_rule import merged

METHODS = ["iso_c", "svc", "tsv_m", "wudi"]
Factors = list[list[Product]]


def product(rng: np.random.Generator, shape: tuple[int, int], rank: int, scale: float = 2.0) -> Product:
    left, right = rng.normal(0, 0.02, (shape[0], rank)), rng.normal(0, 0.02, (rank, shape[1]))
    return Product(left.astype(np.float32), right.astype(np.float32), scale)


def factors(kind: str, shape: tuple[int, int]) -> Factors:
    """Vectors as sums of products."""
    rng = np.random.default_rng(len(kind))
    a, b, c = (product(rng, shape, rank) for rank in (4, 8, 2))
    if kind == "one shared factor":
        return [[a], [Product(a.left, product(rng, shape, 4).right, 0.5)], [c]]
    if kind == "the same twice":
        return [[a], [a], [b]]
    if kind == "lower rank than written":
        dependent = Product(np.repeat(a.left, 3, axis=1), np.repeat(a.right, 3, axis=0), 1.0)
        return [[dependent], [Product(b.left * np.float32(0), b.right, 1.0)]]
    if kind == "a sum, and one that leaves it alone":
        return [[a, Product(c.left, c.right, -0.3)], [], [b]]
    if kind == "as thick as it goes":
        return [[product(rng, shape, min(shape) // 2)], [product(rng, shape, min(shape) // 2 - 1)]]
    return [[a]] if kind == "one" else [[a], [b], [c]]


KINDS = {
    "three": [1.0, -0.7, 0.2], "one": [-1.0], "one shared factor": [1.0, 1.0, -1.0], "the same twice": [1.0, 1.0, 1.0],
    "lower rank than written": [1.0, 0.5], "a sum, and one that leaves it alone": [0.5, 1.0, -2.0],
    "as thick as it goes": [1.0, -1.0],
}  # fmt: skip
SHAPES = [(48, 30), (70, 200), (1, 40), (40, 2)]


def whole(several: Sequence[Product], shape: tuple[int, int]) -> np.ndarray:
    """τ in fp32."""
    parts = [one.scale * one.left.astype(np.float64) @ one.right for one in several]
    return np.sum(parts, axis=0).astype(np.float32) if parts else np.zeros(shape, np.float32)


def by_core(name: str, found: Factors, shares: Sequence[Share], shape: tuple[int, int], block: int) -> np.ndarray:
    """δ by the rule for thin factors, in blocks of so many entries."""
    method, size = methods.load(name), shape[0] * shape[1]
    parameters = methods.settings(method.PARAMETERS)
    work = Work("w", shape, tuple(shares), parameters, lambda number: iter(()), lambda: iter(()), found)
    rule = rules.in_core(method)
    state = rule.prepare(work)
    starts = range(0, size, block)
    return np.concatenate([
        rule.combine(work, Piece(at, np.zeros(min(block, size - at), np.float32), []), state) for at in starts
    ])  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("kind", KINDS)
def test_cores_give_what_whole_matrices_give(name: str, shape: tuple[int, int], kind: str) -> None:
    found = factors(kind, shape)
    shares = [Share(alpha, number, {"floor": 1.0}) for number, alpha in enumerate(KINDS[kind])]
    taus = [whole(several, shape) for several in found]
    dense = merged(name, np.zeros(shape, np.float32), taus, shares, {}, 4096)
    thin = by_core(name, found, shares, shape, 4096).reshape(shape)
    np.testing.assert_allclose(thin, dense, rtol=0, atol=float(np.abs(dense).max()) * 1e-5)
    assert np.linalg.norm(thin) > 0


@pytest.mark.parametrize("name", METHODS)
def test_the_bits_do_not_depend_on_the_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "GROUP", 1000)
    shape = (70, 200)
    shares = [Share(alpha, 0, {"floor": 1.0}) for alpha in KINDS["three"]]
    first, *others = (by_core(name, factors("three", shape), shares, shape, block) for block in (14000, 200, 1400, 777))
    assert all(first.tobytes() == other.tobytes() for other in others)


@pytest.mark.parametrize("shape", SHAPES[2:])
def test_bases_are_orthonormal_and_lose_nothing(shape: tuple[int, int]) -> None:
    """Also where factors are wider than the matrix, and where they are nothing."""
    rng = np.random.default_rng(0)
    found = [
        [product(rng, shape, 5)],
        [],
        [Product(np.zeros((shape[0], 3), np.float32), np.ones((3, shape[1]), np.float32), 1.0)],
    ]
    made = core.core_of(found)
    np.testing.assert_allclose(made.left.T @ made.left, np.eye(made.left.shape[1]), atol=1e-12)
    np.testing.assert_allclose(made.right @ made.right.T, np.eye(len(made.right)), atol=1e-12)
    for several, tau in zip(found, made.taus, strict=True):
        np.testing.assert_allclose(made.left @ tau @ made.right, whole(several, shape), rtol=1e-6, atol=1e-9)


def test_wudi_is_where_the_loss_is_least() -> None:
    """Gradient descent from the sum of the vᵢ, as the paper starts, on Σ ‖(δ − vᵢ) vᵢᵀ‖²/‖vᵢ‖²."""
    shape, alphas = (12, 9), [1.0, -0.6]
    rng = np.random.default_rng(1)
    found = [[product(rng, shape, 2)], [product(rng, shape, 3)]]
    moved = [alpha * whole(one, shape).astype(np.float64) for alpha, one in zip(alphas, found, strict=True)]
    inputs = [v.T @ v / np.square(v).sum() for v in moved]
    step = 0.9 / np.linalg.eigvalsh(sum(inputs)).max()
    at = np.sum(moved, axis=0)
    for _ in range(3000):
        at -= step * sum((at - v) @ g for v, g in zip(moved, inputs, strict=True))
    shares = [Share(alpha) for alpha in alphas]
    np.testing.assert_allclose(
        by_core("wudi", found, shares, shape, 108).reshape(shape), at, atol=np.abs(at).max() * 1e-5
    )


def test_wudi_from_inputs_is_wudi_from_outputs() -> None:
    """Columns fewer or more than all rows together: two ways to the same."""
    from persona.methods import wudi

    rng = np.random.default_rng(2)
    taus = [(rng.normal(0, 1, (40, 70)), alpha, 0.0) for alpha in (1.0, -0.5)]
    taus = [(tau, alpha, float(np.linalg.norm(tau))) for tau, alpha, _ in taus]
    np.testing.assert_allclose(wudi._by_inputs(taus, 70), wudi._by_outputs(taus, 70), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_factors_that_are_not_finite_are_refused(bad: float) -> None:
    one = product(np.random.default_rng(0), (20, 30), 2)
    one.left[3, 1] = bad
    with pytest.raises(Refusal, match="w contains NaN or infinity"), np.errstate(all="ignore"):
        by_core("tsv_m", [[one._replace(scale=1e9)]], [Share(1.0)], (20, 30), 600)
