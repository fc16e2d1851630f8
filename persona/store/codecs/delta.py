"""The difference to the same block of a base tensor.

With n bits per entry, x an entry, b the base's entry at the same position:

    order(u) = u XOR (2ⁿ - 1 if the sign bit of u is set, else 2ⁿ⁻¹)      unsigned order = order of the floats
    d        = order(x) - order(b)  modulo 2ⁿ
    zigzag   = 2d if d < 2ⁿ⁻¹, else 2(2ⁿ - d) - 1                         0, -1, 1, -2, … → 0, 1, 2, 3, …
    payload  = integers (see ``_planes``)

Fine-tuning moves most weights by a few units in the last place, so most of these are 0, 1 or 2. Unlike with XOR, a
step across a power of two stays a small number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from persona import kernels
from persona.store.codecs import _planes

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

WIDTHS = frozenset({2, 4, 8})
NEEDS_BASE = True


def encode(bits: Bits, base: Bits | None) -> bytes:
    """Encode how the entries differ from the base's."""
    assert base is not None
    folded = np.empty(len(bits), bits.dtype)
    counts = kernels.current().fold(bits, base, folded)
    return b"".join(_planes.write_integers(folded, *counts))


def decode(payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
    """Apply the encoded differences to the base's entries."""
    assert base is not None
    reader = _planes.Reader(payload)
    escape, digits, rest = reader.integers(count, width)
    reader.finish()
    moved: Bits = np.empty(count, f"<u{width}") if out is None else out
    if escape:
        kernels.current().move(base, digits, escape, rest, moved)
    else:
        kernels.current().move_by(base, digits, moved)
    return moved
