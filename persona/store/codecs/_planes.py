"""The parts that payloads are made of: byte planes, and streams of integers that are mostly small.

    plane    = method (1 byte), length (4 bytes), that many bytes:
               method 0  one byte, the value of every entry
               method 1  the bytes themselves
               method 2  one zstd frame that says its content size
    integers = kind (1 byte), then
               kind 0    w planes, lowest byte first
               kind 1    a plane of min(z, 15), two to a byte, the first in the low half (a last half without
                         an entry is 0), then z - 15 of the entries that are at least 15, as w planes
               kind 2    a plane of min(z, 255), then z - 255 of the entries that are at least 255, as w planes

where w is the bytes per entry and z an entry. Two entries to a byte let Huffman coding spend less than one bit
on an entry, which matters where most are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from persona.store import compression

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from persona.checkpoints.dtypes import Bits

    Bytes = npt.NDArray[np.uint8]

CONSTANT, PLAIN, ZSTD = 0, 1, 2
PLANES, NIBBLES, BYTES = 0, 1, 2

MOST_PAST_NIBBLES = 0.08
MOST_PAST_BYTES = 0.25
"""Shares of entries that may be too large for a nibble or a byte; above, the next wider way is taken."""

_SAMPLE = 4096
_NOISE = 7.8
"""Bits per byte of a sample above which a plane is stored as it is."""


def write_plane(values: Bytes) -> bytes:
    """A plane, with the cheapest method for it."""
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
    """Every byte plane of ``bits``, lowest first."""
    if bits.itemsize == 1:
        return [write_plane(np.ascontiguousarray(bits).view(np.uint8))]
    return [write_plane((bits >> _of(bits, 8 * k)).astype(np.uint8)) for k in range(bits.itemsize)]


def write_integers(values: Bits) -> list[bytes]:
    """A stream of integers, most of which may be small."""
    for kind, escape, most in ((NIBBLES, 15, MOST_PAST_NIBBLES), (BYTES, 255, MOST_PAST_BYTES)):
        large = values >= _of(values, escape)
        if np.count_nonzero(large) <= most * len(values):
            return [bytes((kind,)), *_write_digits(values, np.flatnonzero(large), escape)]
    return [bytes((PLANES,)), *write_planes(values)]


def _write_digits(values: Bits, where: npt.NDArray[np.intp], escape: int) -> list[bytes]:
    """A plane of ``min(values, escape)``, and what the entries at ``where`` have beyond that."""
    digits = np.zeros(len(values) + len(values) % 2, np.uint8)
    digits[: len(values)] = values  # cut to a byte, which is right for all that are not large
    digits[where] = escape
    plane = _join_nibbles(digits) if escape == 15 else digits[: len(values)]
    return [write_plane(plane), *write_planes(values[where] - _of(values, escape))]


def _join_nibbles(nibbles: Bytes) -> Bytes:
    pairs = nibbles.view("<u2")
    pairs |= pairs >> np.uint16(4)
    return pairs.astype(np.uint8)


def _split_nibbles(packed: Bytes) -> Bytes:
    pairs = packed.astype("<u2")
    pairs |= pairs << np.uint16(4)
    pairs &= np.uint16(0x0F0F)
    return pairs.view(np.uint8)


class Reader:
    """Takes the parts of a payload off its front; ValueError where they are not what was written."""

    def __init__(self, payload: Buffer) -> None:
        self._rest = memoryview(payload).cast("B")

    def take(self, length: int) -> memoryview:
        """The next ``length`` bytes."""
        if length > len(self._rest):
            raise ValueError("a block ends before its parts do")
        part, self._rest = self._rest[:length], self._rest[length:]
        return part

    def number(self, length: int) -> int:
        """The next ``length`` bytes as an unsigned integer."""
        return int.from_bytes(self.take(length), "little")

    def finish(self) -> None:
        """Nothing may be left over."""
        if len(self._rest):
            raise ValueError("a block goes on after its last part")

    def plane(self, count: int) -> Bytes:
        """A plane of ``count`` bytes; it may be read-only."""
        method, length = self.number(1), self.number(4)
        part = self.take(length)
        if method == CONSTANT and length == 1:
            return np.full(count, part[0], np.uint8)
        if method == PLAIN and length == count:
            return np.frombuffer(part, np.uint8)
        if method == ZSTD:
            return np.frombuffer(compression.expand(part, count), np.uint8)
        raise ValueError("a plane has another length than its block says")

    def planes(self, count: int, width: int) -> Bits:
        """``count`` entries from ``width`` planes."""
        bits = self.plane(count).astype(f"<u{width}")
        for k in range(1, width):
            high = self.plane(count).astype(bits.dtype)
            high <<= _of(bits, 8 * k)
            bits |= high
        return bits

    def integers(self, count: int, width: int) -> Bits:
        """What :func:`write_integers` wrote."""
        kind = self.number(1)
        if kind == PLANES:
            return self.planes(count, width)
        if kind == NIBBLES:
            return self._escaped(_split_nibbles(self.plane((count + 1) // 2))[:count], width, 15)
        if kind == BYTES:
            return self._escaped(self.plane(count), width, 255)
        raise ValueError("a stream of integers is of an unknown kind")

    def _escaped(self, digits: Bytes, width: int, escape: int) -> Bits:
        values: Bits = digits.astype(f"<u{width}")
        where = np.flatnonzero(digits == np.uint8(escape))
        rest = self.planes(len(where), width)
        rest += _of(rest, escape)
        values[where] = rest
        return values


def _of(like: Bits, value: int) -> Any:
    """``value`` as a scalar of the type of ``like``, so that numpy keeps to that type."""
    return like.dtype.type(value)
