"""Who is among the k largest: exactly, without sorting, and without favour where many are equal.

The magnitude of an entry is the bits of |τ| in fp32 as an integer: the order of magnitudes, and a NaN is larger
than anything. Let t be the k-th largest magnitude of a tensor, a entries be larger and e equal. All larger ones are
kept, and of the equal ones the share (k - a)/e:

    draw(j)   = (key + j) · φ  mod 2⁶⁴          j the entry's place in the tensor, φ = 2⁶⁴ / golden ratio, odd
    kept      = m > t, or m = t and draw(j) < ⌊2⁶⁴ (k - a)/e⌋

Multiples of the golden ratio spread evenly, so the kept ones lie evenly over the rows, without a sort, a prefix sum
or a random generator, and every block can be decided on its own. In tensors of at most ``SMALL`` entries the bound
is instead the draw that lets exactly k - a of the class pass: there a few entries more or less would be seen.
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
"""Entries up to which exactly k are kept."""

_LOW = 15
_BINS = 1 << 16
"""A magnitude has 31 bits: 16 choose a bin, 15 a place in it."""


def kept_of(density: float, entries: int) -> int:
    """k: the share of the entries, rounded to nearest, and at least one."""
    return min(entries, max(1, int(density * entries + 0.5)))


def magnitudes(tau: Float32) -> Magnitudes:
    """The bits of |τ| as integers, in a new array."""
    return tau.view(np.uint32) & np.uint32(0x7FFFFFFF)


def draws(key: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """The draws of ``count`` entries from ``start``."""
    places = np.arange(count, dtype=np.uint64)
    places += np.uint64((key + start) & MASK)
    places *= np.uint64(PHI)
    return places


def above(edge: Edge, sizes: Magnitudes, key: int, start: int) -> npt.NDArray[np.bool_]:
    """Which entries are above an edge; ``sizes`` are a block's magnitudes, the first at ``start``."""
    bits = np.uint32(edge.bits)
    found = sizes > bits
    if edge.share:
        equal = np.flatnonzero(sizes == bits)
        found[equal] = (equal.astype(np.uint64) + np.uint64((key + start) & MASK)) * np.uint64(PHI) < edge.share
    return found


Passes = Callable[[], Iterable["Magnitudes"]]
"""A tensor's magnitudes from front to back, in blocks, as often as asked."""


def edge(passes: Passes, entries: int, k: int, key: int) -> Edge:
    """The edge above which ``k`` of so many entries are; what is zero is above none."""
    if k >= entries:
        return Edge(ALL)
    if entries <= SMALL:
        return _edge_of_few(np.concatenate(list(passes())), k, key)
    return share_of(*kth_largest(passes, k), k)


def share_of(bits: int, larger: int, equal: int, k: int) -> Edge:
    """The edge for ``k`` at the magnitude ``bits``, which ``equal`` entries have and ``larger`` exceed."""
    if bits == 0:
        return Edge(ALL)
    if larger + equal == k:
        return Edge(bits - 1)
    return Edge(bits, ((k - larger) << 64) // equal)


def _edge_of_few(sizes: Magnitudes, k: int, key: int) -> Edge:
    """Exactly ``k``: the class at the edge in the order of its draws."""
    bits = int(np.partition(sizes, len(sizes) - k)[len(sizes) - k])
    larger, equal = int((sizes > bits).sum()), np.flatnonzero(sizes == bits)
    if bits == 0 or larger + len(equal) == k:
        return share_of(bits, larger, len(equal), k)
    order = np.sort((equal.astype(np.uint64) + np.uint64(key & MASK)) * np.uint64(PHI))
    return Edge(bits, int(order[k - larger]))


def kth_largest(passes: Passes, k: int) -> tuple[int, int, int]:
    """The k-th largest magnitude, how many are larger, and how many equal it; two passes."""
    number, before = place(histogram(passes()), k)
    return join(number, before, within(passes(), number), k)


def histogram(blocks: Iterable[Magnitudes]) -> npt.NDArray[np.int64]:
    """How many magnitudes have each upper half; those of several tensors may be added."""
    return _counted(blocks, lambda sizes: sizes >> np.uint32(_LOW), _BINS)


def within(blocks: Iterable[Magnitudes], number: int) -> npt.NDArray[np.int64]:
    """How many magnitudes with the upper half ``number`` have each lower half."""
    return _counted(blocks, lambda sizes: _inside(sizes, number), 1 << _LOW)


def place(upper: npt.NDArray[np.int64], k: int) -> tuple[int, int]:
    """The upper half of the k-th largest magnitude, and how many magnitudes have a larger one."""
    number, before, _ = _bin_of(upper, k)
    return number, before


def join(number: int, before: int, lower: npt.NDArray[np.int64], k: int) -> tuple[int, int, int]:
    """What :func:`kth_largest` gives, from :func:`place` and :func:`within`."""
    low, larger, equal = _bin_of(lower, k - before)
    return number << _LOW | low, before + larger, equal


def _inside(sizes: Magnitudes, number: int) -> Magnitudes:
    found: Magnitudes = sizes[sizes >> np.uint32(_LOW) == np.uint32(number)] & np.uint32((1 << _LOW) - 1)
    return found


def _counted(blocks: Iterable[Magnitudes], what: Callable[[Any], Any], bins: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(bins, np.int64)
    for sizes in blocks:
        counts += np.bincount(what(sizes), minlength=bins)
    return counts


def _bin_of(counts: npt.NDArray[np.int64], k: int) -> tuple[int, int, int]:
    """The bin of the k-th largest, how many lie above the bin, and how many in it."""
    down = np.cumsum(counts[::-1])
    at = int(np.searchsorted(down, k))
    inside = int(counts[::-1][at])
    return len(counts) - 1 - at, int(down[at]) - inside, inside


def blocks_of(passes: Iterable[Float32]) -> Iterator[Magnitudes]:
    """The magnitudes of blocks of τ."""
    for tau in passes:
        yield magnitudes(tau)
