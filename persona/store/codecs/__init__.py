"""How a block of weights becomes bytes and comes back, bit for bit.

A codec is one module of this folder; its file name is its name in packs, for ever. It has

    WIDTHS      the bytes per entry that it takes: a set of 1, 2, 4, 8
    NEEDS_BASE  whether it says how a block differs from the same block of another tensor
    encode(bits, base) -> bytes
    decode(payload, count, width, base, out=None) -> bits
                ValueError if the payload is not what encode wrote; ``out``, ``count`` entries of that width,
                is room for the result, which a codec may use or leave

where ``bits`` and ``base`` are unsigned integers of one width and one length, ``base`` is None for a codec
that needs none, and all numbers in a payload are little-endian. Modules named ``_…`` are shared parts.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits


class Codec(Protocol):
    """What a module of this folder offers."""

    WIDTHS: frozenset[int]
    NEEDS_BASE: bool

    def encode(self, bits: Bits, base: Bits | None) -> bytes:
        """The payload for a block."""

    def decode(self, payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
        """The ``count`` entries of a payload."""


@cache
def names() -> tuple[str, ...]:
    """Every codec there is, sorted, without importing any."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


@cache
def load(name: str) -> Codec:
    """The codec called ``name``."""
    return cast(Codec, importlib.import_module(f"{__name__}.{name}"))


def fitting(width: int, *, with_base: bool) -> list[str]:
    """Codecs that can take a block of ``width`` bytes per entry, those that use a base first."""
    fit = [n for n in names() if width in load(n).WIDTHS and (with_base or not load(n).NEEDS_BASE)]
    return sorted(fit, key=lambda name: not load(name).NEEDS_BASE)
