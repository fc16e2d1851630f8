"""The kernels in numba: one pass each, without the GIL. Loaded by ``persona.kernels``, and only when it pays.

Without fastmath, LLVM rounds every product and every sum separately, and ``check`` makes sure that it does. Loops run
over slices that start at 0, because numba does not vectorize indices that might be negative. Integer arithmetic is
cast back to its type, because numba would widen it to 64 bits.

An order-preserving integer is a bit pattern XOR ``full`` (all ones) if its sign bit ``half`` is set, else XOR
``half``; zigzag is 2d XOR ``full`` if d is negative. See persona/store/codecs/delta.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numba
import numpy as np

from persona.kernels import plain

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.kernels import Bits, Bytes, Float32

F = TypeVar("F", bound=Callable[..., Any])
u1, u2, u4, u8, f4 = np.uint8, np.uint16, np.uint32, np.uint64, np.float32

FUSED = True

_WIDTHS: Final = (2, 4)
"""Bytes per entry that have compiled loops; others are rare and use numpy."""

_TILE: Final = 4096
"""Entries per tile: few enough for a core's first-level cache, and for a counter of an entry's own width."""

_LOOK: Final = 32
"""Entries per step: few enough for one byte to count the escapes among them."""

_RARE: Final = 64
"""Entries per escape from which most steps have none."""


def name() -> str:
    """Numba and its version."""
    return f"numba {numba.__version__}"


def _jit(function: F) -> F:
    """Compile on first use, and keep the result in numba's cache if there is a folder for it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(nogil=True)(function)  # type: ignore[no-any-return]


def read(array: npt.NDArray[Any]) -> Any:
    """Convert an input to the only type that the loops are compiled for: aligned, contiguous, read-only."""
    view = array.view() if array.flags.aligned and array.flags.c_contiguous else array.copy()
    view.flags.writeable = False
    return view


def count_escapes(digits: Bytes, escape: int, count: int) -> int:
    """Count escapes: nibbles in a compiled loop, bytes in numpy."""
    if escape == 15:
        return int(_count_nibbles(read(digits), count))
    return int(np.count_nonzero(digits[:count] == u1(escape)))


def move(base: Bits, digits: Bytes, escape: int, rest: Bits, out: Bits) -> None:
    """One pass, a tile at a time."""
    if base.itemsize not in _WIDTHS:
        return plain.move(base, digits, escape, rest, out)
    loop = _move_nibbles if escape == 15 else _move_bytes
    return loop(read(base), read(digits), read(rest), out)


def move_by(base: Bits, folded: Bits, out: Bits) -> None:
    """One pass."""
    if base.itemsize not in _WIDTHS:
        return plain.move_by(base, folded, out)
    out[:] = folded
    return _move_by(read(base), out)


def fold(bits: Bits, base: Bits, out: Bits) -> tuple[int, int]:
    """One pass that also counts."""
    if base.itemsize not in _WIDTHS:
        return plain.fold(bits, base, out)
    at_least_15, at_least_255 = _fold(read(bits), read(base), out)
    return int(at_least_15), int(at_least_255)


def split_digits(folded: Bits, escape: int, digits: Bytes, rest: Bits) -> None:
    """One pass for the digits, and a second for the rest if there is any."""
    if folded.itemsize not in _WIDTHS:
        return plain.split_digits(folded, escape, digits, rest)
    values = read(folded)
    (_nibbles if escape == 15 else _bytes)(values, digits)
    if len(rest):
        _beyond(values, escape, rest)
    return None


def join_planes(planes: Sequence[Bytes], out: Bits) -> None:
    """One pass for four planes (fp32); other numbers are rare or fast enough in numpy."""
    if len(planes) == 4:
        lowest, low, high, highest = map(read, planes)
        _join(lowest, low, high, highest, out)
    else:
        plain.join_planes(planes, out)


def widen_bf16(bits: Bits, out: Float32) -> None:
    """One pass."""
    _widen_bf16(read(bits), out)


def round_bf16(values: Float32, out: Bits) -> None:
    """One pass."""
    _round_bf16(read(values), out)


def squares(w: Bits, base: Bits) -> tuple[float, float]:
    """One pass."""
    delta, whole = _squares(read(w), read(base))
    return float(delta.sum()), float(whole.sum())


def low_rank_rows(left: Float32, right: Float32, scale: float, out: Float32) -> None:
    """Row by row, a tile of columns at a time."""
    if len(right):
        _low_rank_rows(np.ascontiguousarray(left), np.ascontiguousarray(right), f4(scale), out)
    else:
        out.fill(0)


@_jit
def _count_nibbles(digits: Any, count: Any) -> Any:
    found = np.int64(0)
    for start in range(0, count // 2, _LOOK):
        some = digits[start : min(start + _LOOK, count // 2)]
        here = u1(0)
        for i in range(len(some)):
            here = u1(here + u1((some[i] & u1(15)) == u1(15)) + u1(some[i] >= u1(240)))
        found += here
    if count % 2 and digits[count // 2] & 15 == 15:
        found += 1
    return found


@_jit
def _move_by(base: Any, out: Any) -> None:
    word = out.dtype.type
    full = word(word(0) - word(1))
    half = word(full ^ word(full >> word(1)))
    for i in range(len(out)):
        z, b = out[i], base[i]
        d = word(z >> word(1)) ^ (full if z & word(1) else word(0))
        moved = word(word(b ^ (full if b >= half else half)) + d)
        out[i] = moved ^ (half if moved >= half else full)


@_jit
def _move_nibbles(base: Any, digits: Any, rest: Any, out: Any) -> None:
    word = out.dtype.type
    where = np.empty(_TILE + 2, u2)
    done = u8(0)
    for start in range(0, len(out), _TILE):
        folded = out[start : start + _TILE]
        some = digits[start // 2 : start // 2 + (len(folded) + 1) // 2]
        for i in range(len(folded) // 2):
            folded[2 * i] = some[i] & u1(15)
            folded[2 * i + 1] = some[i] >> u1(4)
        if len(folded) % 2:
            folded[-1] = some[-1] & u1(15)
        if len(rest):
            found = _find(folded, word(15), len(rest) * _RARE < len(out), where)
            beyond = rest[done : done + found]
            done = u8(done + found)
            for k in range(len(beyond)):
                folded[where[k]] = word(beyond[k] + word(15))
        _move_by(base[start : start + _TILE], folded)


@_jit
def _move_bytes(base: Any, digits: Any, rest: Any, out: Any) -> None:
    word = out.dtype.type
    where = np.empty(_TILE + 1, u2)
    done = u8(0)
    for start in range(0, len(out), _TILE):
        folded, some = out[start : start + _TILE], digits[start : start + _TILE]
        for i in range(len(folded)):
            folded[i] = some[i]
        if len(rest):
            found = _find(some, u1(255), len(rest) * _RARE < len(out), where)
            beyond = rest[done : done + found]
            done = u8(done + found)
            for k in range(len(beyond)):
                folded[where[k]] = word(beyond[k] + word(255))
        _move_by(base[start : start + _TILE], folded)


@_jit
def _find(digits: Any, escape: Any, rare: Any, where: Any) -> Any:
    """Write the positions of the escapes in a tile to ``where``; returns their number."""
    found = u8(0)
    if not rare:
        for i in range(len(digits)):  # without a branch: the next position overwrites one that is not an escape
            where[found] = i
            found = u8(found + u8(digits[i] == escape))
        return found
    for start in range(0, len(digits), _LOOK):
        some = digits[start : start + _LOOK]
        hit = u1(0)
        for i in range(len(some)):
            hit |= u1(some[i] == escape)
        if hit:
            for i in range(len(some)):
                if some[i] == escape:
                    where[found] = start + i
                    found = u8(found + u8(1))
    return found


@_jit
def _fold(bits: Any, base: Any, out: Any) -> Any:
    word = out.dtype.type
    full = word(word(0) - word(1))
    half = word(full ^ word(full >> word(1)))
    at_least_15 = at_least_255 = 0
    for start in range(0, len(out), _TILE):
        x, b, z = bits[start : start + _TILE], base[start : start + _TILE], out[start : start + _TILE]
        some = many = word(0)
        for i in range(len(z)):
            d = word((x[i] ^ (full if x[i] >= half else half)) - (b[i] ^ (full if b[i] >= half else half)))
            folded = word(d << word(1)) ^ (full if d >= half else word(0))
            z[i] = folded
            some = word(some + word(folded >= word(15)))
            many = word(many + word(folded >= word(255)))
        at_least_15 += some
        at_least_255 += many
    return at_least_15, at_least_255


@_jit
def _nibbles(folded: Any, digits: Any) -> None:
    word = folded.dtype.type
    for i in range(len(folded) // 2):
        high = u1(min(folded[2 * i + 1], word(15)))
        digits[i] = u1(min(folded[2 * i], word(15))) | u1(high << u1(4))
    if len(folded) % 2:
        digits[-1] = u1(min(folded[-1], word(15)))


@_jit
def _bytes(folded: Any, digits: Any) -> None:
    word = folded.dtype.type
    for i in range(len(folded)):
        digits[i] = u1(min(folded[i], word(255)))


@_jit
def _beyond(folded: Any, escape: Any, rest: Any) -> None:
    word = folded.dtype.type
    least = word(escape)
    large = np.empty(_TILE + 1, folded.dtype)
    done = u8(0)
    for start in range(0, len(folded), _TILE):
        some = folded[start : start + _TILE]
        found = u8(0)
        for i in range(len(some)):
            large[found] = some[i] - least
            found = u8(found + u8(some[i] >= least))
        part = rest[done : done + found]
        done = u8(done + found)
        for k in range(len(part)):
            part[k] = large[k]


@_jit
def _join(lowest: Any, low: Any, high: Any, highest: Any, out: Any) -> None:
    for i in range(len(out)):
        upper = u4(u4(highest[i]) << u4(24)) | u4(u4(high[i]) << u4(16))
        out[i] = u4(upper) | u4(u4(low[i]) << u4(8)) | u4(lowest[i])


@_jit
def _widen_bf16(bits: Any, out: Any) -> None:
    for i in range(len(out)):
        out[i] = u4(u4(bits[i]) << u4(16)).view(f4)


@_jit
def _round_bf16(values: Any, out: Any) -> None:
    for i in range(len(out)):
        u = f4(values[i]).view(u4)
        rounded = u4(u + u4(0x7FFF) + (u4(u >> u4(16)) & u4(1))) >> u4(16)
        high = u4(u >> u4(16)) | u4(0x40)
        out[i] = u2(high) if u4(u & u4(0x7FFFFFFF)) > u4(0x7F800000) else u2(rounded)


@_jit
def _squares(w: Any, base: Any) -> Any:
    """As many sums in parallel as a tile has entries, so that it vectorizes."""
    delta, whole = np.zeros(_TILE // 2, np.float64), np.zeros(_TILE // 2, np.float64)
    for start in range(0, len(w), len(delta)):
        one, other = w[start : start + len(delta)], base[start : start + len(delta)]
        for i in range(len(one)):
            b = u4(u4(other[i]) << u4(16)).view(f4)
            tau = np.float64(u4(u4(one[i]) << u4(16)).view(f4) - b)
            delta[i] += tau * tau
            whole[i] += np.float64(b) * np.float64(b)
    return delta, whole


@_jit
def _low_rank_rows(left: Any, right: Any, scale: Any, out: Any) -> None:
    rank, columns = right.shape
    for i in range(len(out)):
        for start in range(0, columns, _TILE):
            total = out[i, start : start + _TILE]
            first, a = right[0, start : start + _TILE], left[i, 0]
            for j in range(len(total)):
                total[j] = a * first[j]
            for k in range(1, rank):
                row, a = right[k, start : start + _TILE], left[i, k]
                for j in range(len(total)):
                    total[j] = total[j] + a * row[j]
            for j in range(len(total)):
                total[j] = total[j] * scale
