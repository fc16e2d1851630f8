"""Uncompressed: the payload is the entries, little-endian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

WIDTHS = frozenset({1, 2, 4, 8})
NEEDS_BASE = False


def encode(bits: Bits, base: Bits | None) -> bytes:
    """Copy the entries."""
    return bits.tobytes()


def decode(payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
    """View the payload as entries, without copying."""
    if memoryview(payload).nbytes != count * width:
        raise ValueError("a raw block does not have the length of its tensor")
    return np.frombuffer(memoryview(payload), np.dtype(f"<u{width}"))
