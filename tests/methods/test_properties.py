"""What holds for any vectors: signs, strengths, order, agreement, expectation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona import methods
from persona.methods.parts.share import Share
from tests.methods.by_rule import merged

NAMES = methods.names()
FAMILY = [name for name in NAMES if hasattr(methods.load(name), "FAMILY")]
SEEDS = st.integers(0, 9999)
ELECTED = [name for name in FAMILY if "normalize" in methods.load(name).PARAMETERS]


def vectors(seed: int, count: int, shape: tuple[int, ...] = (12, 30)) -> tuple[np.ndarray, list[np.ndarray]]:
    """A base and runs near it."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 0.02, shape).astype(np.float32)
    return base, [rng.normal(0, 1e-3, shape).astype(np.float32) for _ in range(count)]


def delta(name: str, seed: int, alphas: Sequence[float], order: Sequence[int] | None = None, **given: float | str):
    """δ of as many vectors as alphas; each keeps its key, wherever it stands."""
    base, taus = vectors(seed, len(alphas))
    parameters = methods.settings(methods.load(name).PARAMETERS, given)
    shares = [Share(alpha, 0x9876543 * (n + 1), parameters) for n, alpha in enumerate(alphas)]
    order = range(len(alphas)) if order is None else order
    return merged(name, base, [taus[n].copy() for n in order], [shares[n] for n in order], given, 4096)


@pytest.mark.parametrize("name", FAMILY)
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_the_opposite_of_every_vector_is_the_opposite(name: str, seed: int) -> None:
    alphas = [0.7, -0.3, 1.1]
    there, back = delta(name, seed, alphas), delta(name, seed, [-alpha for alpha in alphas])
    assert np.array_equal(there, -back)
    assert np.count_nonzero(there)


@pytest.mark.parametrize("name", FAMILY)
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_twice_as_strong_is_twice_as_much(name: str, seed: int) -> None:
    assert np.array_equal(delta(name, seed, [1.4, -0.6, 2.2]), 2 * delta(name, seed, [0.7, -0.3, 1.1]))


@pytest.mark.parametrize("name", ELECTED)
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_unless_it_is_divided_by_what_it_weighs(name: str, seed: int) -> None:
    twice, once = ([2 * a for a in (0.7, -0.3, 1.1)], [0.7, -0.3, 1.1])
    found = [delta(name, seed, alphas, normalize="weights") for alphas in (twice, once)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("slerp", "nuslerp")])
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_the_order_of_vectors_changes_roundings_alone(name: str, seed: int) -> None:
    one, other = (delta(name, seed, [0.7, 0.3, 1.1], order) for order in ((0, 1, 2), (2, 0, 1)))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-8)


@pytest.mark.parametrize("name", FAMILY)
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS)
def test_where_vectors_do_not_meet_there_is_nothing_to_settle(name: str, seed: int) -> None:
    """Of disjoint vectors, all kept, every method of the family gives the sum."""
    base, taus = vectors(seed, 3)
    owner = np.random.default_rng(seed).integers(0, 3, base.shape)
    taus = [np.where(owner == n, tau, np.float32(0)) for n, tau in enumerate(taus)]
    given = {} if name == "linear" else {"density": 1.0}
    parameters = methods.settings(methods.load(name).PARAMETERS, given)
    shares = [Share(alpha, n, parameters) for n, alpha in enumerate((0.5, -2.0, 1.0))]
    wanted = np.float32(0.5) * taus[0] - np.float32(2) * taus[1] + taus[2]
    assert np.array_equal(merged(name, base, taus, shares, given, 4096), wanted)


@pytest.mark.parametrize("name", ["ties", "sce", "model_stock", "slerp", "nuslerp", "karcher"])
@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_two_runs_that_are_the_same_are_that_run(name: str, seed: int) -> None:
    base, (tau,) = vectors(seed, 1)
    given = {"density": 1.0} if name == "ties" else {}
    shares = [Share(1.0, n, methods.settings(methods.load(name).PARAMETERS, given)) for n in range(2)]
    found = merged(name, base, [tau, tau.copy()], shares, given, 4096)
    np.testing.assert_allclose(found, tau, rtol=1e-5, atol=3e-9)


@pytest.mark.parametrize("name", ["dare_linear", "della_linear"])
@pytest.mark.parametrize("density", [0.2, 0.5])
def test_what_is_dropped_at_random_is_made_up_for_on_average(name: str, density: float) -> None:
    """400 masks: their mean is τ, within five standard errors of what chance leaves."""
    tau = np.random.default_rng(0).normal(0, 1, (4, 50)).astype(np.float32)
    given = {"density": density, **({"epsilon": 0.1} if name == "della_linear" else {})}
    parameters = methods.settings(methods.load(name).PARAMETERS, given)
    total = np.zeros(tau.shape)
    for key in range(400):
        total += merged(name, tau * 0, [tau.copy()], [Share(1.0, key << 32, parameters)], given, 4096)
    least = density - (0.1 if name == "della_linear" else 0)
    error = np.abs(tau) * np.sqrt((1 / least - 1) / 400)
    assert np.all(np.abs(total / 400 - tau) <= 5 * error)


@pytest.mark.parametrize("name", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, density=st.floats(0.001, 1), coarse=st.booleans())
def test_density_is_a_promise(name: str, seed: int, density: float, coarse: bool) -> None:
    """Exactly density · n entries of one vector are left, however many are equal."""
    base, (tau,) = vectors(seed, 1)
    if coarse:
        tau = (np.sign(tau) * (np.floor(np.abs(tau) * 1000) + 1)).astype(np.float32)
    shares = [Share(1.0, seed, methods.settings(methods.load(name).PARAMETERS, {"density": density}))]
    found = merged(name, base, [tau], shares, {"density": density}, 4096)
    assert np.count_nonzero(found) == min(tau.size, max(1, int(density * tau.size + 0.5)))
