"""Edges of a trim for vectors that lie in memory: a sample says where to look, one compiled pass finds it exactly.

The k-th largest of n magnitudes lies, all but surely, between two magnitudes of a sample. One pass counts what is
above them and collects what is between; the k-th is then among few. If the sample was wrong, the histograms of
``methods/parts/order.py`` find it; so the result never depends on the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts import order
from persona.methods.parts.share import ALL, Cut, Edge, Share

if TYPE_CHECKING:
    from persona.kernels import Float32, Weights

_SAMPLE = 1 << 14
_WIDE = 4.0
"""Standard deviations of a rank in the sample that lie on either side of it."""

_STEP = 1 << 17


class Held:
    """One vector in memory: weights and the base's of the same form, or τ in fp32 beside an empty base."""

    def __init__(self, w: Weights, base: Weights, key: int) -> None:
        self.w = w
        self.base = base
        self.key = key
        self._sample: Any = None

    def cut(self, sparsify: str, share: Share) -> Cut | None:
        """What a family's sparsifier keeps; None for everything. See ``methods/parts/family.py``."""
        if share.cut is not None:
            return share.cut
        entries, density = len(self.w), share.number("density")
        if sparsify == "trim":
            return Cut(self.edge(order.kept_of(density, entries))) if density < 1 else None
        kept = order.kept_of(density, entries)
        top = min(int(share.number("gamma") * entries), entries - kept)
        return Cut(self.edge(top + kept), self.edge(top) if top else None)

    def edge(self, k: int) -> Edge:
        """As ``order.edge``."""
        if k >= len(self.w):
            return Edge(ALL)
        if len(self.w) <= order.SMALL:
            return order.edge(self.passes, len(self.w), k, self.key)
        found = self._in_band(k)
        return order.share_of(*(found or order.kth_largest(self.passes, k)), k)

    def passes(self) -> Any:
        """The magnitudes, in blocks."""
        for start in range(0, len(self.w), _STEP):
            yield self._magnitudes(slice(start, start + _STEP))

    def _magnitudes(self, where: slice) -> Any:
        return order.magnitudes(_difference(self.w[where], self.base[where]))

    def _in_band(self, k: int) -> tuple[int, int, int] | None:
        """The k-th largest, how many are larger, how many are equal; None if it is not where it was looked for."""
        from persona.kernels import merging

        low, high = self._band(k)
        found = np.empty(max(1024, len(self.w) // 8), np.uint32)
        above, top, inside, bottom = merging.band(self.w, self.base, low, high, found)
        if not above < k:
            return None
        if k <= above + top:
            return high, above, top
        if inside < 0 or low == high:
            return None
        if k <= above + top + inside:
            return _among(found[:inside], above + top, k)
        return (low, above + top + inside, bottom) if k <= above + top + inside + bottom else None

    def _band(self, k: int) -> tuple[int, int]:
        if self._sample is None:
            self._sample = np.sort(self._magnitudes(slice(None, None, max(1, len(self.w) // _SAMPLE))))[::-1]
        count, share = len(self._sample), k / len(self.w)
        margin = _WIDE * (count * share * (1 - share)) ** 0.5 + 2
        first, last = int(share * count - margin), int(share * count + margin)
        return int(self._sample[min(last, count - 1)]), int(self._sample[max(0, first)])


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
