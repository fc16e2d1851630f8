"""Every method, block by block, against its own reference in plain torch over whole tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona import methods
from tests.methods.by_rule import ROUGH, merged, shares_of, wanted

NAMES = methods.names()


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
