"""The inner loops that every weight goes through, in two ways that give the same bits.

    plain      numpy: the readable reference, and what small jobs and machines without numba use
    compiled   numba: one pass where numpy needs several, compiled on first use and kept in numba's cache

Starting numba costs more than a small job takes, so whoever has a job says how many entries it will go through.
``choose`` then answers for that job alone, by the same rule in every process, and what it answers is what a receipt
names; ``current`` is for work whose result is checked or does not depend on who did it, such as reading a pack.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Bits = npt.NDArray[np.unsignedinteger[npt.NBitBase]]
    Bytes = npt.NDArray[np.uint8]
    Float32 = npt.NDArray[np.float32]
    Weights = Bits | Float32
    """BF16 as its bits (uint16), or fp32."""

WORTH: Final = 1 << 28
"""Entries from which a job is worth numba's start of some 0.6 s; each saves 2 to 3 ns, on all cores together."""


class Kernels(Protocol):
    """The loops. Arrays have one dimension and lie in one piece; ``out`` is written, all else is left alone."""

    FUSED: bool
    """Whether ``persona.kernels.merging`` goes with them: a merge in one pass."""

    def name(self) -> str:
        """Who computes, with its version: what a receipt says."""

    # Differences of bit patterns, see persona/store/codecs/delta.py. Entries have 1, 2, 4 or 8 bytes.

    def count_escapes(self, digits: Bytes, escape: int, count: int) -> int:
        """How many of ``count`` digits are ``escape``: 15 for nibbles, two to a byte, or 255 for bytes."""

    def move(self, base: Bits, digits: Bytes, escape: int, rest: Bits, out: Bits) -> None:
        """``base`` moved by zigzag differences: digits, and for each that is ``escape`` what ``rest`` adds to it."""

    def move_by(self, base: Bits, folded: Bits, out: Bits) -> None:
        """``base`` moved by zigzag differences."""

    def fold(self, bits: Bits, base: Bits, out: Bits) -> tuple[int, int]:
        """Zigzag differences of ``bits`` to ``base``; how many are at least 15, and at least 255."""

    def split_digits(self, folded: Bits, escape: int, digits: Bytes, rest: Bits) -> None:
        """min(folded, escape) as digits, and of those that are at least ``escape`` what goes beyond it."""

    def join_planes(self, planes: Sequence[Bytes], out: Bits) -> None:
        """Entries of their bytes: one plane of each, the lowest first."""

    # Rounding.

    def widen_bf16(self, bits: Bits, out: Float32) -> None:
        """fp32 of BF16."""

    def round_bf16(self, values: Float32, out: Bits) -> None:
        """BF16 of fp32, to nearest, ties to even; a NaN keeps what fits of it and is quiet."""

    def squares(self, w: Bits, base: Bits) -> tuple[float, float]:
        """Σ τ² and Σ W_base² of BF16 bits, summed in fp64 in an order of the kernel's own: a measure, not a weight."""

    def low_rank_rows(self, left: Float32, right: Float32, scale: float, out: Float32) -> None:
        """out[i, j] = scale · Σₖ left[i, k] · right[k, j], k ascending; the one loop over matrices."""


_lock = threading.Lock()
_compiled: Kernels | None = None
_tried = False


def choose(entries: int) -> Kernels:
    """The kernels for a job that goes through so many entries, counted once for each time they are read."""
    if entries >= WORTH and (compiled := _load_compiled()) is not None:
        return compiled
    return _plain()


def current() -> Kernels:
    """The compiled kernels if a job of this process was worth loading them, else the plain ones."""
    return _compiled or _plain()


def _plain() -> Kernels:
    from persona.kernels import plain

    return plain


def _load_compiled() -> Kernels | None:
    """Load them once; None if numba is missing or broken, or gives other bits than numpy on this machine."""
    global _compiled, _tried
    with _lock:
        if not _tried:
            _tried = True
            try:
                from persona.kernels import check, compiled

                check.compare(compiled, _plain())
                _compiled = compiled
            except Exception:  # whatever is wrong with a compiler, the plain kernels do the same
                _compiled = None
        return _compiled
