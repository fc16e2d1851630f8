"""Edges of a trim: the k-th largest magnitude, found by a sample and one compiled pass.

The k-th largest of n magnitudes almost certainly lies between two magnitudes of a sample. One pass counts what is
above them and collects what is between, which leaves few to search. If the sample was misleading, or too much lies
between, the histograms of ``methods/parts/order.py`` find it, so the result never depends on the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts import order
from persona.methods.parts.share import ALL, Cut, Edge, Share

if TYPE_CHECKING:
    from persona.kernels import Float32, Weights

    Get = Callable[[int, int], tuple[Weights, Weights]]
    """Returns the entries from start to stop: weights with the base's in the same form, or τ in fp32 with an empty base."""

STEP = 1 << 18
"""Entries per step, which a store also decodes together."""

_SAMPLE, _MOST_SAMPLED = 1 << 14, 1 << 18
_PLACES = 16
"""Number of places in a tensor that a sample is taken from."""

_WIDE = 4.0
"""Width of the band on either side, in standard deviations of a rank in the sample."""

_COLLECTED = 1 << 22
"""Maximum number of magnitudes to collect."""


class Magnitudes:
    """The magnitudes of one vector at one tensor; ``get`` reads any part of them."""

    def __init__(self, entries: int, key: int, get: Get) -> None:
        self.entries = entries
        self.key = key
        self._get = get
        self._sample: Any = None

    def cut(self, sparsify: str, share: Share) -> Cut | None:
        """The cut that a family's sparsifier makes; None if it keeps everything. See ``methods/parts/family.py``."""
        if share.cut is not None:
            return share.cut
        density = share.number("density")
        kept = order.kept_of(density, self.entries)
        if sparsify == "trim":
            return Cut(self.edge(kept)) if density < 1 else None
        top = min(int(share.number("gamma") * self.entries), self.entries - kept)
        return Cut(self.edge(top + kept), self.edge(top) if top else None)

    def edge(self, k: int) -> Edge:
        """The edge that keeps the ``k`` largest magnitudes, as ``order.edge`` finds it."""
        if k >= self.entries:
            return Edge(ALL)
        if self.entries <= order.SMALL:
            return order.edge(self.passes, self.entries, k, self.key)
        return order.share_of(*(self._in_band(k) or order.kth_largest(self.passes, k)), k)

    def passes(self) -> Iterator[Any]:
        """Yield the magnitudes in blocks."""
        for w, base in self._blocks():
            yield order.magnitudes(_difference(w, base))

    def _blocks(self) -> Iterator[tuple[Weights, Weights]]:
        for start in range(0, self.entries, STEP):
            yield self._get(start, min(start + STEP, self.entries))

    def _in_band(self, k: int) -> tuple[int, int, int] | None:
        """The k-th largest, how many are larger, and how many are equal; None if it is not in the band."""
        from persona.kernels import merging

        low, high = self._band(k)
        found = np.empty(min(_COLLECTED, max(1024, self.entries // 8)), np.uint32)
        above = top = bottom = inside = 0
        for w, base in self._blocks():
            counts = merging.band(w, base, low, high, found[inside:])
            if counts[2] < 0:
                return None
            above, top, inside, bottom = (a + b for a, b in zip((above, top, inside, bottom), counts, strict=True))
        return _ranked(k, (low, high), (above, top, inside, bottom), found)

    def _band(self, k: int) -> tuple[int, int]:
        if self._sample is None:
            self._sample = np.sort(np.concatenate(list(self._sampled())))[::-1]
        count, share = len(self._sample), k / self.entries
        margin = _WIDE * (count * share * (1 - share)) ** 0.5 + 2
        first, last = int(share * count - margin), int(share * count + margin)
        return int(self._sample[min(last, count - 1)]), int(self._sample[max(0, first)])

    def _sampled(self) -> Iterator[Any]:
        """Sample every n-th entry of blocks that are spread evenly over the tensor."""
        wanted = min(_MOST_SAMPLED, max(_SAMPLE, self.entries // 256))
        starts = range(0, self.entries, max(STEP, -(-self.entries // _PLACES)))
        for start in starts:
            w, base = self._get(start, min(start + STEP, self.entries))
            every = max(1, len(w) * len(starts) // wanted)
            yield order.magnitudes(_difference(w[::every], base[::every]))


def _ranked(
    k: int, band: tuple[int, int], counts: tuple[int, int, int, int], found: Any
) -> tuple[int, int, int] | None:
    """Find the k-th in the band: at its upper end, inside, or at its lower end; None if it is outside."""
    (low, high), (above, top, inside, bottom) = band, counts
    if above < k <= above + top:
        return high, above, top
    if not above < k or low == high:
        return None
    if k <= above + top + inside:
        return _among(found[:inside], above + top, k)
    return (low, above + top + inside, bottom) if k <= above + top + inside + bottom else None


def _among(found: Any, before: int, k: int) -> tuple[int, int, int]:
    at = len(found) - (k - before)
    bits = np.partition(found, at)[at]
    return int(bits), before + int((found > bits).sum()), int((found == bits).sum())


def _difference(w: Weights, base: Weights) -> Float32:
    if not len(base):
        return np.array(w, np.float32)
    tau: Float32 = _fp32(w) - _fp32(base)
    return tau


def _fp32(values: Any) -> Any:
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32) if values.dtype == np.uint16 else values
