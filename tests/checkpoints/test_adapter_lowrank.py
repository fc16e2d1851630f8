"""ΔW has one value, down to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from persona.checkpoints.adapters.dense import product
from persona.kernels import plain
from persona.methods.parts.lowrank import delta_rows


def factors(rows: int, rank: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    entries = np.random.default_rng(rank)
    return entries.standard_normal((rows, rank), np.float32), entries.standard_normal((rank, columns), np.float32)


def one_by_one(left: np.ndarray, right: np.ndarray, scale: float) -> np.ndarray:
    """The definition, an entry at a time."""
    rows = np.zeros((len(left), right.shape[1]), np.float32)
    for i, j in np.ndindex(rows.shape):
        total = left[i, 0] * right[0, j]
        for k in range(1, len(right)):
            total = np.float32(total + np.float32(left[i, k] * right[k, j]))
        rows[i, j] = total * np.float32(scale)
    return rows


@pytest.mark.parametrize("rank", [1, 2, 7, 64])
def test_the_definition(rank: int) -> None:
    left, right = factors(23, rank, 31)
    expected = one_by_one(left, right, 1.7).view(np.uint32)
    assert (delta_rows(left, right, 1.7, 0, 23).view(np.uint32) == expected).all()
    assert (product(left, right, 1.7).view(np.uint32) == expected).all()


@pytest.mark.parametrize("block", [1, 40, 1000, 1 << 17])
@pytest.mark.parametrize("step", [1, 5, 64])
def test_cuts_and_blocks_do_not_matter(step: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = factors(64, 8, 33)
    whole = delta_rows(left, right, 0.3, 0, 64)
    monkeypatch.setattr(plain, "BLOCK", block)
    pieces = [delta_rows(left, right, 0.3, at, min(at + step, 64)) for at in range(0, 64, step)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_one_term_is_what_torch_has() -> None:
    left, right = factors(40, 1, 50)
    theirs = (torch.tensor(left) @ torch.tensor(right)) * 0.7
    assert delta_rows(left, right, 0.7, 0, 40).tobytes() == theirs.numpy().tobytes()


def test_error_against_the_exact_sum() -> None:
    """(r + 1) roundings, each of at most half a unit in the last place, relative to s·|L|·|R|."""
    left, right = factors(50, 64, 60)
    exact = 1.7 * (left.astype(np.float64) @ right.astype(np.float64))
    size = 1.7 * (np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64))
    error = np.abs(delta_rows(left, right, 1.7, 0, 50) - exact)
    assert (error <= 66 * 2.0**-24 * size).all()


def test_the_smallest_and_the_largest() -> None:
    left = np.array([[1e-30, 1e-30], [3e38, 3e38], [-0.0, 0.0]], np.float32)
    right = np.array([[1e-14], [1.0]], np.float32)
    tiny, huge, zero = delta_rows(left, right, 1.0, 0, 3)[:, 0]
    assert tiny == np.float32(1e-30) + np.float32(1e-30) * np.float32(1e-14)
    assert np.isfinite(delta_rows(left[:1], right[:1] * 1e-1, 1.0, 0, 1)[0, 0])
    assert huge == np.float32(3e38)
    assert zero == 0


def test_nothing() -> None:
    left, right = factors(4, 2, 3)
    assert delta_rows(left, right, 1.0, 2, 2).shape == (0, 3)
    assert delta_rows(left[:, :0], right[:0], 1.0, 0, 4).tolist() == [[0.0] * 3] * 4
