"""Lossless codecs for blocks of weights.

A codec is one module in this folder; its file name is its name in packs and must never change. It defines

    WIDTHS      the supported bytes per entry: a subset of 1, 2, 4, 8
    NEEDS_BASE  whether it encodes the difference to the same block of another tensor
    encode(bits, base) -> bytes
    decode(payload, count, width, base, out=None) -> bits
                raises ValueError if encode did not write the payload; ``out`` is an optional buffer of ``count``
                entries of ``width`` bytes that the codec may decode into

``bits`` and ``base`` are unsigned integers of the same width and length; ``base`` is None if the codec needs none.
All numbers in a payload are little-endian. Modules named ``_…`` are shared parts.
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
    """The interface of a codec module."""

    WIDTHS: frozenset[int]
    NEEDS_BASE: bool

    def encode(self, bits: Bits, base: Bits | None) -> bytes:
        """Encode a block as a payload."""

    def decode(self, payload: Buffer, count: int, width: int, base: Bits | None, out: Bits | None = None) -> Bits:
        """Decode a payload of ``count`` entries; ValueError if it is invalid."""


@cache
def names() -> tuple[str, ...]:
    """Names of all codecs, sorted, without importing them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


@cache
def load(name: str) -> Codec:
    """Import the codec called ``name``."""
    return cast(Codec, importlib.import_module(f"{__name__}.{name}"))


def fitting(width: int, *, with_base: bool) -> list[str]:
    """Names of the codecs for ``width`` bytes per entry, those that need a base first."""
    fit = [n for n in names() if width in load(n).WIDTHS and (with_base or not load(n).NEEDS_BASE)]
    return sorted(fit, key=lambda name: not load(name).NEEDS_BASE)
