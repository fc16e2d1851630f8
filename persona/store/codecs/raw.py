"""Plain bytes: the payload is the entries, little-endian, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

WIDTHS = frozenset({1, 2, 4, 8})
NEEDS_BASE = False


def encode(bits: Bits, base: Bits | None) -> bytes:
    """The entries as they are."""
    return bits.tobytes()


def decode(payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
    """A view of the payload, without a copy."""
    if memoryview(payload).nbytes != count * width:
        raise ValueError("a raw block has another length than its tensor says")
    return np.frombuffer(memoryview(payload), np.dtype(f"<u{width}"))
