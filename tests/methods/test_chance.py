"""Random masks, worked out by hand from the numbers that SplitMix64 is known by."""

from __future__ import annotations

import numpy as np
import pytest

from persona import methods
from persona.methods.parts import chance, ranks
from persona.methods.parts.share import Share
from tests.methods.by_rule import merged, wanted

KNOWN = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""The first four numbers of SplitMix64 from seed 0, as published with it: 0.883…, 0.431…, 0.026…, 0.970… of 2⁶⁴."""

M64 = (1 << 64) - 1


def splitmix(key: int, place: int) -> int:
    """The number of one place, in Python's own integers."""
    z = (key + (place + 1) * 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def test_the_generator_is_splitmix64() -> None:
    assert chance.bits(0, 0, 4).tolist() == KNOWN == [splitmix(0, place) for place in range(4)]
    key = 0xFEDCBA9876543210
    assert chance.bits(key, 1 << 40, 3).tolist() == [splitmix(key, (1 << 40) + n) for n in range(3)]


def test_a_number_from_0_to_1_is_the_upper_53_bits() -> None:
    assert chance.uniform(0, 0, 4).tolist() == [(one >> 11) / (1 << 53) for one in KNOWN]


def both(method: str, tau: list[float], alpha: float, given: dict[str, float | str], key: int = 0) -> list[float]:
    """δ of one vector, by the rule; the reference says the same."""
    base, values = np.zeros(len(tau), np.float32), np.array(tau, np.float32)
    shares = [Share(alpha, key, methods.settings(methods.load(method).PARAMETERS, given))]
    found = merged(method, base, [values], shares, given, 4096)
    assert found.tolist() == wanted(method, base, [values], shares, given).tolist()
    return [float(one) for one in found]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare(method: str) -> None:
    """Half: 0.883 and 0.970 are not below ½, 0.431 and 0.026 are. The second and the third stay, times 2."""
    assert both(method, [1, 2, 3, 4], -1, {"density": 0.5}) == [0, -4, -6, 0]
    assert both(method, [1, 2, 3, 4], 0.5, {"density": 0.5, "rescale": "none"}) == [0, 1, 1.5, 0]
    # L1: 2 + 2 of 1 + 2 + 2 + 11 = 16 are left, a quarter.
    assert both(method, [1, 2, 2, 11], 1, {"density": 0.5, "rescale": "l1"}) == [0, 8, 8, 0]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_each_vector_and_each_place_has_its_own_draw(method: str) -> None:
    key = 0x1234567
    kept = [splitmix(key, place) < 1 << 62 for place in range(40)]  # a quarter
    assert 0 < sum(kept) < 40
    assert both(method, [1.0] * 40, 1, {"density": 0.25}, key) == [4.0 * one for one in kept]


def test_ranks_become_chances() -> None:
    """Magnitudes 4, 1, 2, 3 have the ranks 3, 0, 1, 2; from 0.1 to 0.9 in steps of 0.8/3."""
    found = ranks.chances(np.array([[4, -1, 2, 3]], np.float32), 0.5, 0.4)
    np.testing.assert_allclose(found, [[0.9, 0.1, 0.1 + 0.8 / 3, 0.1 + 1.6 / 3]], rtol=1e-15)
    assert ranks.ranked(np.array([[2, -2, 2, 1]], np.float32)).tolist() == [[1, 2, 3, 0]], "equal ones by their place"
    assert ranks.chances(np.array([[5], [1]], np.float32), 0.5, 0.4).tolist() == [[0.5], [0.5]], "rows of one entry"


@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della(method: str) -> None:
    """Chances 0.9, 0.1, 0.367, 0.633 against 0.883, 0.431, 0.026, 0.970: the first and the third stay."""
    given: dict[str, float | str] = {"density": 0.5, "epsilon": 0.4}
    first, third = np.float32(4) / np.float32(0.9), np.float32(2) / np.float32(0.1 + 0.8 / 3)
    assert both(method, [4, -1, 2, 3], -0.5, given) == [-first / 2, 0, -third / 2, 0]
    assert both(method, [4, -1, 2, 3], 1, {**given, "rescale": "none"}) == [4, 0, 2, 0]
    # L1: 4 + 2 of 4 + 1 + 2 + 1 = 8 are left; ranks and masks are as before (the last 1 is the second smallest).
    assert both(method, [4, -1, 2, 1], 1, {**given, "rescale": "l1"})[0] == np.float32(4 / 0.75)
