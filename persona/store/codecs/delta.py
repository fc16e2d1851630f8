"""The difference to the same block of a base tensor.

With n bits per entry, x an entry, b the base's entry of the same place:

    order(u) = u XOR (2ⁿ - 1 if the sign bit of u is set, else 2ⁿ⁻¹)      unsigned order = order of the floats
    d        = order(x) - order(b)  modulo 2ⁿ
    zigzag   = 2d if d < 2ⁿ⁻¹, else 2(2ⁿ - d) - 1                         0, -1, 1, -2, … → 0, 1, 2, 3, …
    payload  = integers (see ``_planes``)

A fine-tune moves most weights by few steps of their own precision, so most of these are 0, 1 or 2. Unlike
with XOR, a step over a power of two stays a small number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from persona.store.codecs import _planes

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

WIDTHS = frozenset({2, 4, 8})
NEEDS_BASE = True


def encode(bits: Bits, base: Bits | None) -> bytes:
    """How the entries differ from the base's."""
    assert base is not None
    difference = _order(bits)
    difference -= _order(base)
    return b"".join(_planes.write_integers(_zigzag(difference)))


def decode(payload: Buffer, count: int, width: int, base: Bits | None) -> Bits:
    """The base's entries moved by what the payload says."""
    assert base is not None
    reader = _planes.Reader(payload)
    difference = _unzigzag(reader.integers(count, width))
    reader.finish()
    difference += _order(base)
    return _unorder(difference)


def _order(bits: Bits) -> Bits:
    top = 8 * bits.itemsize - 1
    flip = (_signed(bits) >> top).view(bits.dtype)  # all ones where the sign bit is set
    flip |= bits.dtype.type(1 << top)
    flip ^= bits
    return flip


def _unorder(ordered: Bits) -> Bits:
    top = 8 * ordered.itemsize - 1
    flip = ~(_signed(ordered) >> top).view(ordered.dtype)  # all ones where the sign bit is clear
    flip |= ordered.dtype.type(1 << top)
    flip ^= ordered
    return flip


def _zigzag(difference: Bits) -> Bits:
    top = 8 * difference.itemsize - 1
    sign = (_signed(difference) >> top).view(difference.dtype)
    difference <<= difference.dtype.type(1)
    difference ^= sign
    return difference


def _unzigzag(folded: Bits) -> Bits:
    sign = -_signed(folded & folded.dtype.type(1))
    folded >>= folded.dtype.type(1)
    folded ^= sign.view(folded.dtype)
    return folded


def _signed(bits: Bits) -> np.ndarray[tuple[int, ...], np.dtype[np.signedinteger]]:
    return bits.view(f"<i{bits.itemsize}")
