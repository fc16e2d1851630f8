"""Find the k largest magnitudes exactly, without sorting, and without bias among equal ones.

The magnitude of an entry is the bits of |τ| in fp32 as an integer, which have the same order; a NaN is larger than
everything. Let t be the k-th largest magnitude of a tensor, a the number of larger entries and e of equal ones. All
larger ones are kept, and the share (k - a)/e of the equal ones:

    draw(j)   = (key + j) · φ  mod 2⁶⁴          j is the position in the tensor, φ = 2⁶⁴ / golden ratio, odd
    kept      = m > t, or m = t and draw(j) < ⌊2⁶⁴ (k - a)/e⌋

Multiples of the golden ratio are evenly distributed, so the kept ones are spread evenly over the rows without a sort, a
prefix sum or a random generator, and each block can be decided by itself. In tensors of at most ``SMALL`` entries,
where a few entries more or less would matter, the bound is the draw that keeps exactly k - a of the equal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts.share import ALL, Edge

if TYPE_CHECKING:
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Magnitudes = npt.NDArray[np.uint32]

PHI = 0x9E3779B97F4A7C15
"""⌊2⁶⁴ / golden ratio⌋, which is odd: no two draws of a tensor are equal."""

MASK = (1 << 64) - 1
SMALL = 1 << 16
"""Exactly k are kept in tensors of up to this many entries."""

_LOW = 15
_BINS = 1 << 16
"""A magnitude has 31 bits: 16 for the bin, 15 for the position in it."""


def kept_of(density: float, entries: int) -> int:
    """Return k: density · entries, rounded to nearest, at least 1."""
    return min(entries, max(1, int(density * entries + 0.5)))


def magnitudes(tau: Float32) -> Magnitudes:
    """Return the bits of |τ| as integers, in a new array."""
    return tau.view(np.uint32) & np.uint32(0x7FFFFFFF)


def draws(key: int, places: npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
    """Return the draws of the entries at these positions."""
    return (places.astype(np.uint64) + np.uint64(key & MASK)) * np.uint64(PHI)


def above(edge: Edge, sizes: Magnitudes, key: int, start: int) -> npt.NDArray[np.bool_]:
    """Return a mask of the entries above an edge.

    Args:
        sizes: Magnitudes of a block.
        start: Position of its first entry in the tensor.
    """
    bits = np.uint32(edge.bits)
    mask = sizes > bits
    if edge.share:
        equal = np.flatnonzero(sizes == bits)
        mask[equal] = draws(key + start, equal) < edge.share
    return mask


Passes = Callable[[], Iterable["Magnitudes"]]
"""Yields the magnitudes of a tensor in blocks; each call starts again."""


def edge(passes: Passes, entries: int, k: int, key: int) -> Edge:
    """Return the edge that `k` of `entries` are above; zeros are above no edge."""
    if k >= entries:
        return Edge(ALL)
    if entries <= SMALL:
        return _edge_of_few(np.concatenate(list(passes())), k, key)
    return share_of(*kth_largest(passes, k), k)


def share_of(bits: int, larger: int, equal: int, k: int) -> Edge:
    """Return the edge for `k` at the magnitude `bits`, which `equal` entries have and `larger` exceed."""
    if bits == 0:
        return Edge(ALL)
    if larger + equal == k:
        return Edge(bits - 1)
    return Edge(bits, ((k - larger) << 64) // equal)


def _edge_of_few(sizes: Magnitudes, k: int, key: int) -> Edge:
    """Return the edge for exactly `k`: equal ones are kept in the order of their draws."""
    bits = int(np.partition(sizes, len(sizes) - k)[len(sizes) - k])
    larger, equal = int((sizes > bits).sum()), np.flatnonzero(sizes == bits)
    if bits == 0 or larger + len(equal) == k:
        return share_of(bits, larger, len(equal), k)
    return Edge(bits, int(np.sort(draws(key, equal))[k - larger]))


def kth_largest(passes: Passes, k: int) -> tuple[int, int, int]:
    """Return the k-th largest magnitude, and how many are larger and equal; takes two passes."""
    number, before = place(histogram(passes()), k)
    return join(number, before, within(passes(), number), k)


def histogram(blocks: Iterable[Magnitudes]) -> npt.NDArray[np.int64]:
    """Count magnitudes by their upper half; counts of several tensors can be added."""
    return _counted(blocks, lambda sizes: sizes >> np.uint32(_LOW), _BINS)


def within(blocks: Iterable[Magnitudes], number: int) -> npt.NDArray[np.int64]:
    """Count magnitudes whose upper half is `number` by their lower half."""
    return _counted(blocks, lambda sizes: _inside(sizes, number), 1 << _LOW)


def place(upper: npt.NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return the upper half of the k-th largest magnitude, and how many magnitudes have a larger one."""
    number, before, _ = _bin_of(upper, k)
    return number, before


def join(number: int, before: int, lower: npt.NDArray[np.int64], k: int) -> tuple[int, int, int]:
    """Return the result of :func:`kth_largest` from those of :func:`place` and :func:`within`."""
    low, larger, equal = _bin_of(lower, k - before)
    return number << _LOW | low, before + larger, equal


def _inside(sizes: Magnitudes, number: int) -> Magnitudes:
    lower: Magnitudes = sizes[sizes >> np.uint32(_LOW) == np.uint32(number)] & np.uint32((1 << _LOW) - 1)
    return lower


def _counted(blocks: Iterable[Magnitudes], what: Callable[[Any], Any], bins: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(bins, np.int64)
    for sizes in blocks:
        counts += np.bincount(what(sizes), minlength=bins)
    return counts


def _bin_of(counts: npt.NDArray[np.int64], k: int) -> tuple[int, int, int]:
    """Return the bin of the k-th largest, and how many are above the bin and in it."""
    down = np.cumsum(counts[::-1])
    at = int(np.searchsorted(down, k))
    inside = int(counts[::-1][at])
    return len(counts) - 1 - at, int(down[at]) - inside, inside


def blocks_of(passes: Iterable[Float32]) -> Iterator[Magnitudes]:
    """Yield the magnitudes of blocks of τ."""
    for tau in passes:
        yield magnitudes(tau)
