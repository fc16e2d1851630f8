"""Every method, block by block, against its own reference in plain torch over whole tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persona import methods
from persona.methods.parts import rules
from persona.methods.parts.share import Share
from persona.methods.parts.work import Piece, Work

NAMES = methods.names()
ROUGH = {"model_stock", "slerp", "nuslerp", "karcher", "sce", "iso_c", "tsv_m"}
"""Methods with sums over whole tensors, whose order a reference need not share."""


def merged(name: str, base: np.ndarray, deltas: Sequence[np.ndarray], shares: Sequence[Share], given: dict, block: int):
    """δ by the method's rule, in blocks."""
    module = methods.load(name)
    rule = rules.rule(module)
    columns = base.shape[-1] if base.ndim > 1 else max(1, base.size)
    step = {rules.ANYWHERE: block, rules.ROWS: max(1, block // columns) * columns, rules.WHOLE: max(1, base.size)}
    size = step[rule.cut]
    flat = [d.reshape(-1) for d in (base, *deltas)]

    def blocks(which: int) -> Iterator[np.ndarray]:
        for at in range(0, base.size, size):
            yield flat[which][at : at + size].copy()

    def pieces() -> Iterator[Piece]:
        for number, (w, *taus) in enumerate(zip(*(blocks(k) for k in range(len(flat))), strict=True)):
            yield Piece(number * size, w, taus)

    parameters = methods.settings(module.PARAMETERS, given)
    work = Work("w", base.shape, tuple(shares), parameters, lambda number: blocks(number + 1), pieces)
    with np.errstate(all="ignore"):
        state = rule.prepare(work)
        parts = [rule.combine(work, piece, state) for piece in pieces()]
    return np.concatenate(parts).reshape(base.shape)


def shares_of(name: str, alphas: Sequence[float], given: dict) -> list[Share]:
    parameters = methods.settings(methods.load(name).PARAMETERS, given)
    return [Share(alpha, 0x1234567 * (n + 1), parameters) for n, alpha in enumerate(alphas)]


def wanted(name: str, base: np.ndarray, deltas: Sequence[np.ndarray], shares: Sequence[Share], given: dict):
    module = methods.load(name)
    parameters = methods.settings(module.PARAMETERS, given)
    tensors = [torch.from_numpy(d.copy()) for d in (base, *deltas)]
    return module.reference(tensors[0], tensors[1:], shares, parameters).numpy()


def count_for(name: str, count: int) -> int:
    least, most = methods.vectors_taken(methods.load(name))
    return max(least, min(count, most or count))


def values(shape: tuple[int, ...], seed: int, coarse: bool) -> np.ndarray:
    """Deltas as runs have them: normal, or of few distinct magnitudes as between bf16 checkpoints."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, 1e-3, shape)
    if coarse:
        drawn = np.round(drawn * 2000) / 2048
    return drawn.astype(np.float32)


SHAPES = [(1,), (7,), (300,), (1, 1), (5, 3), (40, 70), (3, 4, 5), (64, 1), (1, 90)]


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 999),
    coarse=st.booleans(),
    count=st.sampled_from([1, 2, 3, 8]),
    density=st.sampled_from([0.01, 0.2, 0.5, 0.85, 1.0]),
    block=st.sampled_from([4096, 8192, 1 << 17]),
)
def test_blocks_are_the_reference(
    name: str, shape: tuple[int, ...], seed: int, coarse: bool, count: int, density: float, block: int
) -> None:
    count = count_for(name, count)
    alphas = [0.5, 1.0, 0.3, 2.0, 0.7, 1.5, 0.1, 0.9][:count]
    declared = methods.load(name).PARAMETERS
    given = {"density": density} if "density" in declared else {}
    if "epsilon" in declared:
        given["epsilon"] = min(density, 1 - density) / 2
    if not hasattr(methods.load(name), "check_alphas"):
        alphas[-1] *= -1
    base = values(shape, 1000 + seed, False) * 20 + np.float32(0.2)  # models lie near each other on the sphere
    deltas = [values(shape, 7 * seed + n, coarse) for n in range(count)]
    shares = shares_of(name, alphas, given)
    ours = merged(name, base, deltas, shares, given, block)
    theirs = wanted(name, base, deltas, shares, given)
    if name in ROUGH:
        scale = max(np.abs(d).max() for d in (*deltas, base * 1e-3)) * 2
        assert np.abs(ours - theirs).max() <= scale * 1e-5
    else:
        assert ours.tobytes() == (theirs + 0.0).tobytes() or np.array_equal(ours, theirs)
