"""The kernels in numpy: several passes each, where each pass is one line of the formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persona.kernels import Bits, Bytes, Float32

FUSED = False

BLOCK: Final = 1 << 17
"""Entries per block of a low-rank product: a block and its products fit into a core's cache."""


def name() -> str:
    """The library, without its version, which the receipt has anyway."""
    return "numpy"


def count_escapes(digits: Bytes, escape: int, count: int) -> int:
    """Count digits that equal ``escape``."""
    return int(np.count_nonzero(_digits(digits, escape, count) == np.uint8(escape)))


def move(base: Bits, digits: Bytes, escape: int, rest: Bits, out: Bits) -> None:
    """unorder(order(base) + unzigzag(digit + rest))."""
    small = _digits(digits, escape, len(base))
    folded = small.astype(base.dtype)
    folded[small == np.uint8(escape)] = rest + _of(rest, escape)
    _move_by(base, folded, out)


def move_by(base: Bits, folded: Bits, out: Bits) -> None:
    """unorder(order(base) + unzigzag(folded))."""
    _move_by(base, folded.copy(), out)


def _move_by(base: Bits, folded: Bits, out: Bits) -> None:
    """Do the same, overwriting ``folded``."""
    difference = _unzigzag(folded)
    difference += _order(base)
    flip = ~_all_sign(difference)
    flip |= _top(difference)
    np.bitwise_xor(flip, difference, out=out)


def fold(bits: Bits, base: Bits, out: Bits) -> tuple[int, int]:
    """zigzag(order(bits) − order(base))."""
    np.subtract(_order(bits), _order(base), out=out)
    sign = _all_sign(out)
    out <<= _of(out, 1)
    out ^= sign
    return int(np.count_nonzero(out >= _of(out, 15))), int(np.count_nonzero(out >= _of(out, 255)))


def split_digits(folded: Bits, escape: int, digits: Bytes, rest: Bits) -> None:
    """Cast to bytes, which is right for small values, and replace large ones by the escape."""
    where = np.flatnonzero(folded >= _of(folded, escape))
    small = np.zeros(len(folded) + len(folded) % 2, np.uint8)
    small[: len(folded)] = folded
    small[where] = escape
    digits[:] = _join_nibbles(small) if escape == 15 else small[: len(folded)]
    np.subtract(folded[where], _of(folded, escape), out=rest)


def join_planes(planes: Sequence[Bytes], out: Bits) -> None:
    """Write each plane to its byte of every entry; with two planes, shifting is faster."""
    if len(planes) == 2:
        np.left_shift(planes[1], _of(out, 8), out=out, dtype=out.dtype)
        out |= planes[0]
        return
    places = out.view(np.uint8).reshape(len(out), len(planes))
    for number, plane in enumerate(planes):
        places[:, number] = plane


def _digits(digits: Bytes, escape: int, count: int) -> Bytes:
    return _split_nibbles(digits)[:count] if escape == 15 else digits[:count]


def _join_nibbles(nibbles: Bytes) -> Bytes:
    pairs = nibbles.view("<u2")
    pairs |= pairs >> np.uint16(4)
    return pairs.astype(np.uint8)


def _split_nibbles(packed: Bytes) -> Bytes:
    pairs = packed.astype("<u2")
    pairs |= pairs << np.uint16(4)
    pairs &= np.uint16(0x0F0F)
    return pairs.view(np.uint8)


def _order(bits: Bits) -> Bits:
    flip = _all_sign(bits)
    flip |= _top(bits)
    flip ^= bits
    return flip


def _unzigzag(folded: Bits) -> Bits:
    sign = -_signed(folded & _of(folded, 1))
    folded >>= _of(folded, 1)
    folded ^= sign.view(folded.dtype)
    return folded


def _all_sign(bits: Bits) -> Bits:
    """All ones where the sign bit is set."""
    ones: Bits = (_signed(bits) >> (8 * bits.itemsize - 1)).view(bits.dtype)
    return ones


def _top(bits: Bits) -> Any:
    return _of(bits, 1 << (8 * bits.itemsize - 1))


def _signed(bits: Bits) -> Any:
    return bits.view(f"<i{bits.itemsize}")


def _of(like: Bits, value: int) -> Any:
    """``value`` as a scalar of the type of ``like``, so that numpy keeps that type."""
    return like.dtype.type(value)


def widen_bf16(bits: Bits, out: Float32) -> None:
    """Put the bits into the upper half of each fp32."""
    halves = out.view(np.uint16)
    halves[1::2] = bits
    halves[::2] = 0


def round_bf16(values: Float32, out: Bits) -> None:
    """Add half a unit in the last kept place (minus one bit if that place is even), then truncate."""
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    out[:] = rounded.view(np.uint16)[1::2]
    # The carry would turn a NaN with a full mantissa into an infinity, or wrap its sign.
    if np.isnan(values.max(initial=-np.inf)):
        nan = np.isnan(values)
        out[nan] = (bits[nan] >> np.uint32(16)) | np.uint32(0x40)


def squares(w: Bits, base: Bits) -> tuple[float, float]:
    """Sums in fp64; each τ is rounded to fp32 first, as always."""
    wide, theirs = np.empty(len(w), np.float32), np.empty(len(w), np.float32)
    widen_bf16(w, wide)
    widen_bf16(base, theirs)
    with np.errstate(all="ignore"):
        wide -= theirs
        return float(np.sum(wide.astype(np.float64) ** 2)), float(np.sum(theirs.astype(np.float64) ** 2))


def low_rank_rows(left: Float32, right: Float32, scale: float, out: Float32) -> None:
    """Per block: the first product, then product and sum for each further k, then the scale."""
    height = max(1, min(len(out), BLOCK // max(out.shape[1], 1)))
    products = np.empty((height, out.shape[1]), np.float32)
    for at in range(0, len(out), height):
        block, some = out[at : at + height], left[at : at + height]
        _add_up(some, right, block, products[: len(block)])
        block *= np.float32(scale)


def _add_up(left: Float32, right: Float32, out: Float32, products: Float32) -> None:
    if not len(right):
        out.fill(0)
        return
    np.multiply(left[:, :1], right[0], out=out)
    for k in range(1, len(right)):
        np.multiply(left[:, k : k + 1], right[k], out=products)
        out += products
