"""The inner loops that every weight goes through, in two implementations with the same bits.

    plain      numpy: the readable reference, also for small jobs and machines without numba
    compiled   numba: one pass where numpy needs several, compiled on first use and kept in numba's cache

Starting numba takes longer than a small job, so callers of ``choose`` give the number of entries that their job goes
through. The choice depends on that job alone, by the same rule in every process, and a receipt names it. ``current``
is for work whose result is checked or is the same either way, such as reading a pack.
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
"""Number of entries from which numba's start of about 0.6 s pays: each entry saves 2 to 3 ns, on all cores together."""


class Kernels(Protocol):
    """The loops. Arrays are one-dimensional and contiguous. Results go to ``out``; all other arrays are read only."""

    FUSED: bool
    """Whether ``persona.kernels.merging``, which merges in one pass, can be used with them."""

    def name(self) -> str:
        """The library that computes, with its version, for a receipt."""

    # Differences of bit patterns, see persona/store/codecs/delta.py. Entries have 1, 2, 4 or 8 bytes.

    def count_escapes(self, digits: Bytes, escape: int, count: int) -> int:
        """Count ``escape`` among the first ``count`` digits: 15 for nibbles (two per byte) or 255 for bytes."""

    def move(self, base: Bits, digits: Bytes, escape: int, rest: Bits, out: Bits) -> None:
        """Move ``base`` by zigzag differences: digits, plus the next entry of ``rest`` for each that is ``escape``."""

    def move_by(self, base: Bits, folded: Bits, out: Bits) -> None:
        """Move ``base`` by zigzag differences."""

    def fold(self, bits: Bits, base: Bits, out: Bits) -> tuple[int, int]:
        """Zigzag differences of ``bits`` to ``base``; returns how many are at least 15, and at least 255."""

    def split_digits(self, folded: Bits, escape: int, digits: Bytes, rest: Bits) -> None:
        """Split into digits min(folded, escape) and, for those that are at least ``escape``, the rest."""

    def join_planes(self, planes: Sequence[Bytes], out: Bits) -> None:
        """Assemble entries from one plane per byte, the lowest byte first."""

    # Rounding.

    def widen_bf16(self, bits: Bits, out: Float32) -> None:
        """Convert BF16 to fp32."""

    def round_bf16(self, values: Float32, out: Bits) -> None:
        """Round fp32 to BF16, to nearest, ties to even; a NaN becomes quiet and keeps the upper bits of its payload."""

    def squares(self, w: Bits, base: Bits) -> tuple[float, float]:
        """Σ τ² and Σ W_base² of BF16 bits in fp64. The order of summation is not fixed, so this is only for figures."""

    def low_rank_rows(self, left: Float32, right: Float32, scale: float, out: Float32) -> None:
        """out[i, j] = scale · Σₖ left[i, k] · right[k, j], k ascending; the only loop over matrices."""


_lock = threading.Lock()
_compiled: Kernels | None = None
_tried = False


def choose(entries: int) -> Kernels:
    """Choose the kernels for a job. ``entries`` counts an entry once for every time that it is read."""
    if entries >= WORTH and (compiled := _load_compiled()) is not None:
        return compiled
    return _plain()


def current() -> Kernels:
    """The compiled kernels if this process has loaded them, else the plain ones."""
    return _compiled or _plain()


def _plain() -> Kernels:
    from persona.kernels import plain

    return plain


def _load_compiled() -> Kernels | None:
    """Load the compiled kernels once; None if numba is missing or broken, or does not give numpy's bits."""
    global _compiled, _tried
    with _lock:
        if not _tried:
            _tried = True
            try:
                from persona.kernels import check, compiled

                check.compare(compiled, _plain())
                _compiled = compiled
            except Exception:  # whatever is wrong with numba, the plain kernels can do the work
                _compiled = None
        return _compiled
