"""Compiled merging: the same bits as block by block in numpy, and edges that are exact wherever they are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import persona
from persona.methods.parts import order
from persona.methods.parts.share import Share

pytest.importorskip("numba")
from persona.building import selfcheck
from persona.building.edges import Magnitudes
from tests.models import load

MakeRepo = Callable[[Path], persona.Repository]


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


def held_tau(tau: np.ndarray, key: int) -> Magnitudes:
    return Magnitudes(len(tau), key, lambda start, stop: (tau[start:stop], tau[:0]))


def wide(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@settings(deadline=None, max_examples=30)
@given(
    entries=st.sampled_from([65_537, 100_000, 300_001, 1_000_000]),
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
    held = held_tau(tau, 5) if whole else Magnitudes(entries, 5, lambda a, b: (w[a:b], base[a:b]))
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
    cut = held_tau(tau, 0).cut("outliers", share)
    assert cut is not None
    assert cut.high is not None
    sizes = order.magnitudes(tau)
    kept = order.above(cut.low, sizes, 0, 0) & ~order.above(cut.high, sizes, 0, 0)
    assert tau[kept].tolist() == list(range(76, 96))


def test_one_edge_for_the_whole_vector(make_repo: MakeRepo, tmp_path: Path) -> None:
    """density 0.5 of 4 + 4 entries: the four largest all lie in one tensor, and the other loses everything."""
    ones = {name: torch.ones(4) for name in ("a", "b")}
    tuned = {"a": torch.tensor([1.5, 1.6, 1.7, 1.8]), "b": torch.tensor([1.1, 1.2, 1.3, 1.4])}
    for folder, tensors in (("base", ones), ("run", tuned)):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "run", name="v")
    for scope, b in (("model", [1.0, 1.0, 1.0, 1.0]), ("tensor", [1.0, 1.0, 1.3, 1.4])):
        text = repo.recipe_path.read_text()
        merge = f'\n[merge]\nmethod = "ties"\ndensity = 0.5\ntrim = "{scope}"\n'
        repo.recipe_path.write_text(text.split("\n[merge]")[0] + merge)
        persona.build(repo, tmp_path / scope)
        built = load(tmp_path / scope)
        assert torch.equal(built["b"], torch.tensor(b))
        assert torch.equal(built["a"], tuned["a"] if scope == "model" else torch.tensor([1.0, 1.0, 1.7, 1.8]))
