"""Checks that two sets of kernels give the same bits, once per process that loads compiled ones.

A compiler may fuse a product and a sum on some machine, or have a bug there. A build's arithmetic is defined to the
bit, so it is checked on the machine that builds, with entries where mistakes show: every kind of number, and lengths
around the step sizes of the loops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persona.kernels import Kernels

_COUNT = 1237
_SPECIAL = {
    2: [0x0000, 0x8000, 0x0001, 0x8001, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFAB, 0x7F7F, 0xFF7F, 0x7FFF, 0xFFFF],
    4: [0, 1 << 31, 1, (1 << 31) + 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7F7FFFFF, 0x3F808000],
}


class Different(Exception):
    """Two kernels disagree."""


def compare(one: Kernels, other: Kernels) -> None:
    """Compare two sets of kernels.

    Raises:
        Different: a kernel gives different bits; the message names it.
    """
    with np.errstate(all="ignore"):
        pairs = zip(results(one), results(other), strict=True)
        for (what, ours), (_, theirs) in pairs:
            if not same(ours, theirs):
                raise Different(what)


def same(ours: Any, theirs: Any) -> bool:
    """Whether the bits are equal. In fp32, any NaN equals any other, because processors differ in which one they keep."""
    one, other = np.asarray(ours), np.asarray(theirs)
    if one.dtype == np.float32:
        one, other = np.nan_to_num(one, nan=7, posinf=np.inf), np.nan_to_num(other, nan=7, posinf=np.inf)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def results(kernels: Kernels) -> Iterator[tuple[str, Any]]:
    """Run every kernel on the same entries; yields its name and result."""
    for width in (2, 4):
        yield from _differences(kernels, width)
        yield from _planes(kernels, width)
    yield from _roundings(kernels)


def _planes(kernels: Kernels, width: int) -> Iterator[tuple[str, Any]]:
    bits = _entries(width, 3)
    out = np.empty_like(bits)
    kernels.join_planes([(bits >> bits.dtype.type(8 * k)).astype(np.uint8) for k in range(width)], out)
    yield f"join_planes, {width} bytes", out.tobytes() == bits.tobytes()


def _differences(kernels: Kernels, width: int) -> Iterator[tuple[str, Any]]:
    base = _entries(width, 1)
    for escape, share in ((15, 0.05), (255, 0.2), (255, 0.0), (15, 0.0)):
        bits = base + _steps(width, escape, share)
        folded, out = np.empty_like(base), np.empty_like(base)
        counts = kernels.fold(bits, base, folded)
        digits = np.empty((len(base) + 1) // 2 if escape == 15 else len(base), np.uint8)
        rest = np.empty(counts[escape == 255], base.dtype)
        kernels.split_digits(folded, escape, digits, rest)
        yield f"fold, {width} bytes", np.array([folded, folded * 0 + base.dtype.type(counts[0])])
        yield "split_digits", np.concatenate([digits, rest.view(np.uint8)])
        yield "count_escapes", kernels.count_escapes(digits, escape, len(base)) == counts[escape == 255]
        kernels.move(base, digits, escape, rest, out)
        yield "move", out.tobytes() == bits.tobytes()
        kernels.move_by(base, folded, out)
        yield "move_by", out.tobytes() == bits.tobytes()


def _roundings(kernels: Kernels) -> Iterator[tuple[str, Any]]:
    wide = np.empty(_COUNT, np.float32)
    kernels.widen_bf16(_entries(2, 5), wide)
    yield "widen_bf16", wide.view(np.uint32)
    short = _entries(2, 6)
    kernels.round_bf16(weights(4, 6), short)
    yield "round_bf16", short
    rows = np.empty((7, 31), np.float32)
    kernels.low_rank_rows(weights(4, 7)[: 7 * 5].reshape(7, 5), weights(4, 8)[: 5 * 31].reshape(5, 31), 0.3, rows)
    yield "low_rank_rows", rows


def _entries(width: int, seed: int) -> Any:
    """Bit patterns: random ones, with special values in between."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << (8 * width), _COUNT, dtype=np.uint64).astype(f"<u{width}")
    bits[rng.random(_COUNT) < 0.1] = 0
    places = rng.choice(_COUNT, 300, replace=False)
    bits[places] = rng.choice(np.array(_SPECIAL[width], bits.dtype), len(places))
    return bits


def weights(width: int, seed: int) -> Any:
    """BF16 bits or fp32, half of them of the size of real weights, where sums are rounded."""
    bits = _entries(width, seed)
    usual = np.random.default_rng(seed).normal(0, 0.02, _COUNT).astype(np.float32).view(np.uint32)
    ours = usual >> np.uint32(16) if width == 2 else usual
    bits[::2] = ours[::2]
    return bits if width == 2 else bits.view(np.float32)


def _steps(width: int, escape: int, share: float) -> Any:
    rng = np.random.default_rng(escape)
    small, large = rng.integers(0, escape // 2, _COUNT), rng.integers(0, 1 << 15, _COUNT)
    return np.where(rng.random(_COUNT) < share, large, small).astype(f"<u{width}")
