"""Random numbers that depend only on the seed, the vector, the tensor and the position.

SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator: the j-th number of a key is the finalizer of
key + (j + 1) · γ. So a mask does not depend on the number of threads, and each block can be computed by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts.order import MASK

if TYPE_CHECKING:
    import numpy.typing as npt

GAMMA = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def bits(key: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each of `count` entries from `start`."""
    z = np.arange(count, dtype=np.uint64)
    z += np.uint64((start + 1) & MASK)
    z *= np.uint64(GAMMA)
    z += np.uint64(key & MASK)
    z ^= z >> np.uint64(30)
    z *= np.uint64(MIX_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(MIX_2)
    z ^= z >> np.uint64(31)
    return z


def kept(key: int, start: int, count: int, probability: float) -> Any:
    """Return a mask that keeps each entry with the same probability."""
    if probability >= 1:
        return np.ones(count, bool)
    return bits(key, start, count) < np.uint64(bound(probability))


def bound(probability: float) -> int:
    """Return the number that 64 random bits are below with this probability, which is less than 1."""
    return int(probability * 2.0**64)


def uniform(key: int, start: int, count: int) -> Any:
    """Return a number in [0, 1) for each entry, from 53 random bits."""
    return (bits(key, start, count) >> np.uint64(11)) * 2.0**-53
