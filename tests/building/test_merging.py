"""Compiled merging: the same bits as block by block in numpy, and edges that are exact wherever they are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona.methods.parts import order
from persona.methods.parts.share import Share

pytest.importorskip("numba")
from persona.building import selfcheck
from persona.building.edges import Held


def test_the_check_that_guards_the_loops_passes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert selfcheck.merging_agrees()
    merge = selfcheck.merging.merge

    def wrong(*args: object) -> None:
        merge(*args)
        args[-1].view(np.uint8)[-1] ^= 1  # type: ignore[attr-defined]

    monkeypatch.setattr(selfcheck.merging, "merge", wrong)
    assert not selfcheck.merging_agrees()


def bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def wide(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@settings(deadline=None, max_examples=30)
@given(
    entries=st.sampled_from([65_537, 100_000, 300_001]),
    std=st.sampled_from([0.0, 1e-6, 5e-5, 2e-4, 1.0]),
    density=st.sampled_from([1e-5, 0.01, 0.2, 0.5, 0.99]),
    seed=st.integers(0, 999),
    whole=st.booleans(),
)
def test_edges_in_memory_are_those_of_a_sort(entries: int, std: float, density: float, seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    base = bf16(rng.normal(0, 0.02, entries))
    w = bf16(wide(base) + rng.normal(0, std, entries))
    tau = wide(w) - wide(base)
    held = Held(tau, tau[:0], 5) if whole else Held(w, base, 5)
    k = order.kept_of(density, entries)
    edge = held.edge(k)
    sizes = np.sort(order.magnitudes(tau))[::-1]
    kth = int(sizes[k - 1])
    larger, equal = int((sizes > kth).sum()), int((sizes == kth).sum())
    assert edge == order.share_of(kth, larger, equal, k)
    assert edge == order.edge(lambda: iter([order.magnitudes(tau)]), entries, k, 5)


@settings(deadline=None, max_examples=30)
@given(
    density=st.floats(0.001, 1),
    entries=st.integers(1, 400),
    levels=st.integers(1, 6),
    key=st.integers(0, (1 << 64) - 1),
)
def test_density_is_a_promise_in_small_tensors(density: float, entries: int, levels: int, key: int) -> None:
    """Exactly k, however many magnitudes are equal."""
    rng = np.random.default_rng(entries)
    tau = rng.integers(1, levels + 1, entries).astype(np.float32)
    k = order.kept_of(density, entries)
    edge = order.edge(lambda: iter([order.magnitudes(tau)]), entries, k, key)
    assert int(order.above(edge, order.magnitudes(tau), key, 0).sum()) == k


@pytest.mark.parametrize("density", [0.1, 0.2, 0.37, 0.5])
def test_density_is_a_promise_in_large_tensors_of_few_magnitudes(density: float) -> None:
    """A light bf16 fine-tune: "at least the threshold" keeps a third too much, "above" a third too little."""
    rng = np.random.default_rng(0)
    base = bf16(rng.normal(0, 0.02, (1024, 1024))).reshape(-1)
    tau = wide(bf16(wide(base) + rng.normal(0, 5e-5, base.shape))) - wide(base)
    sizes = order.magnitudes(tau)
    edge = order.edge(lambda: iter([sizes]), len(tau), order.kept_of(density, len(tau)), 99)
    kept = order.above(edge, sizes, 99, 0)
    assert abs(kept.mean() / density - 1) < 2e-3
    by_row = kept.reshape(1024, 1024).mean(axis=1)
    assert by_row.std() < 1.3 * (density * (1 - density) / 1024) ** 0.5


def test_a_cut_takes_what_lies_between() -> None:
    tau = np.arange(1, 101, dtype=np.float32)
    share = Share(1.0, 0, {"density": 0.2, "gamma": 0.05})
    cut = Held(tau, tau[:0], 0).cut("outliers", share)
    assert cut is not None
    assert cut.high is not None
    sizes = order.magnitudes(tau)
    kept = order.above(cut.low, sizes, 0, 0) & ~order.above(cut.high, sizes, 0, 0)
    assert tau[kept].tolist() == list(range(76, 96))
