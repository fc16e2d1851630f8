"""Byte planes: all lowest bytes of a block, then all second bytes, and so on, each compressed separately.

    payload = plane 0 … plane w-1            plane k = the k-th lowest byte of every entry, see ``_planes``

A float's highest byte holds its sign and most of its exponent, which take few values and compress well; its lowest
bytes are noise and stay uncompressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.store.codecs import _planes

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

WIDTHS = frozenset({1, 2, 4, 8})
NEEDS_BASE = False


def encode(bits: Bits, base: Bits | None) -> bytes:
    """Encode the entries plane by plane."""
    return b"".join(_planes.write_planes(bits))


def decode(payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
    """Join the planes to entries."""
    reader = _planes.Reader(payload)
    bits = reader.planes(count, width, out)
    reader.finish()
    return bits
