"""Parts of payloads: byte planes, and streams of mostly small integers.

    plane    = method (1 byte), length (4 bytes), that many bytes:
               method 0  one byte, the value of every entry
               method 1  the bytes themselves
               method 2  one zstd frame that states its content size
    integers = kind (1 byte), then
               kind 0    w planes, lowest byte first
               kind 1    a plane of min(z, 15), two to a byte, the first in the low half (a last half without
                         an entry is 0), then z - 15 of the entries that are at least 15, as w planes
               kind 2    a plane of min(z, 255), then z - 255 of the entries that are at least 255, as w planes

where w is the bytes per entry and z an entry. With two entries per byte, Huffman coding can spend less than one bit
on an entry, which matters when most are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from persona import kernels
from persona.store import compression

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

    Bytes = npt.NDArray[np.uint8]

CONSTANT, PLAIN, ZSTD = 0, 1, 2
PLANES, NIBBLES, BYTES = 0, 1, 2

MOST_PAST_NIBBLES = 0.08
MOST_PAST_BYTES = 0.25
"""Largest share of entries that may exceed a nibble or a byte; above it, the next wider kind is used."""

_SAMPLE = 4096
_NOISE = 7.8
"""Entropy of a sample, in bits per byte, above which a plane is stored uncompressed."""


def write_plane(values: Bytes) -> bytes:
    """Encode a plane with the cheapest method."""
    if len(values) and (values == values[0]).all():
        return _plane(CONSTANT, values[:1].tobytes())
    if len(values) > _SAMPLE and _entropy(values[:: len(values) // _SAMPLE]) > _NOISE:
        return _plane(PLAIN, values.tobytes())
    packed = compression.squeeze(values.data)
    if len(packed) < len(values):
        return _plane(ZSTD, packed)
    return _plane(PLAIN, values.tobytes())


def _plane(method: int, payload: bytes) -> bytes:
    return bytes((method,)) + len(payload).to_bytes(4, "little") + payload


def _entropy(values: Bytes) -> float:
    counts = np.bincount(values)
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log2(shares)).sum())


def write_planes(bits: Bits) -> list[bytes]:
    """Encode every byte plane of ``bits``, lowest first."""
    if bits.itemsize == 1:
        return [write_plane(np.ascontiguousarray(bits).view(np.uint8))]
    return [write_plane((bits >> _of(bits, 8 * k)).astype(np.uint8)) for k in range(bits.itemsize)]


class Integers(NamedTuple):
    """A decoded stream of integers, before its parts are joined.

    Attributes:
        escape: Digit that marks a larger integer, 15 or 255; 0 if the digits are the integers themselves.
        digits: One per integer, packed two to a byte if ``escape`` is 15.
        rest: For each escape, the integer minus ``escape``.
    """

    escape: int
    digits: Any
    rest: Bits


def write_integers(values: Bits, at_least_15: int, at_least_255: int) -> list[bytes]:
    """Encode a stream of integers.

    Args:
        at_least_15: How many of ``values`` are 15 or more.
        at_least_255: How many are 255 or more.
    """
    kinds = ((NIBBLES, 15, at_least_15, MOST_PAST_NIBBLES), (BYTES, 255, at_least_255, MOST_PAST_BYTES))
    for kind, escape, large, most in kinds:
        if large <= most * len(values):
            return [bytes((kind,)), *_write_digits(values, escape, large)]
    return [bytes((PLANES,)), *write_planes(values)]


def _write_digits(values: Bits, escape: int, large: int) -> list[bytes]:
    digits = np.empty((len(values) + 1) // 2 if escape == 15 else len(values), np.uint8)
    rest = np.empty(large, values.dtype)
    kernels.current().split_digits(values, escape, digits, rest)
    return [write_plane(digits), *write_planes(rest)]


class Reader:
    """Reads the parts of a payload in order; raises ValueError if they are invalid."""

    def __init__(self, payload: Buffer) -> None:
        self._rest = memoryview(payload).cast("B")

    def take(self, length: int) -> memoryview:
        """The next ``length`` bytes."""
        if length > len(self._rest):
            raise ValueError("a block is truncated")
        part, self._rest = self._rest[:length], self._rest[length:]
        return part

    def number(self, length: int) -> int:
        """The next ``length`` bytes as an unsigned integer."""
        return int.from_bytes(self.take(length), "little")

    def finish(self) -> None:
        """Check that the whole payload was read."""
        if len(self._rest):
            raise ValueError("a block has extra bytes after its last part")

    def plane(self, count: int) -> Bytes:
        """Read a plane of ``count`` bytes, which may be read-only."""
        method, length = self.number(1), self.number(4)
        part = self.take(length)
        if method == CONSTANT and length == 1:
            return np.full(count, part[0], np.uint8)
        if method == PLAIN and length == count:
            return np.frombuffer(part, np.uint8)
        if method == ZSTD:
            return np.frombuffer(compression.expand(part, count), np.uint8)
        raise ValueError("a plane does not have the length of its block")

    def planes(self, count: int, width: int, out: Bits | None = None) -> Bits:
        """Read ``count`` entries from ``width`` planes, into ``out`` if given; a single plane may be read-only."""
        planes = [self.plane(count) for _ in range(width)]
        if width == 1:
            return planes[0].view("<u1")
        bits: Bits = np.empty(count, f"<u{width}") if out is None else out
        kernels.current().join_planes(planes, bits)
        return bits

    def integers(self, count: int, width: int) -> Integers:
        """Read ``count`` integers that :func:`write_integers` wrote."""
        kind = self.number(1)
        if kind == PLANES:
            return Integers(0, self.planes(count, width), np.empty(0, f"<u{width}"))
        if kind not in (NIBBLES, BYTES):
            raise ValueError("a stream of integers has an unknown kind")
        escape = 15 if kind == NIBBLES else 255
        digits = self.plane((count + 1) // 2 if kind == NIBBLES else count)
        escapes = kernels.current().count_escapes(digits, escape, count)
        return Integers(escape, digits, self.planes(escapes, width))


def _of(like: Bits, value: int) -> Any:
    """``value`` as a scalar of the dtype of ``like``, so that numpy does not promote."""
    return like.dtype.type(value)
