"""Sparsify and combine in one pass, in numba, with the same bits as ``persona.methods.parts.family``.

It works tile by tile, so that intermediate results stay in a core's first-level cache: the thinned τ of each vector,
its vote and, after the last vector, the result, scaled, added to the base and rounded. See there for the formulas.
``rows`` has one vector per row: BF16 bits of its weights, or τ in fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numba
import numpy as np

from persona.kernels.compiled import F, f4, read, u1, u2, u4, u8

if TYPE_CHECKING:
    import numpy.typing as npt

    from persona.kernels import Weights

ALL, CUT, RANDOM = 0, 1, 2
"""What is kept of a vector: everything, the entries between two edges, or each entry at random."""

NO_EDGE: Final = 0xFFFFFFFF
"""Bits of an edge that no magnitude is above."""

_TILE: Final = 1024
_LOOK: Final = 64
_PHI: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


class Voters(NamedTuple):
    """How each vector takes part: arrays with one entry per vector, see :func:`voters`."""

    alphas: Any
    weights: Any
    kinds: Any
    low_bits: Any
    low_shares: Any
    high_bits: Any
    high_shares: Any
    keys: Any
    divisors: Any


def voters(rows: list[dict[str, Any]]) -> Voters:
    """Make the arrays from one dict per vector. Missing fields get values that have no effect."""
    kinds = {
        "alphas": (f4, 1), "weights": (f4, 1), "kinds": (u1, ALL), "low_bits": (u4, 0), "low_shares": (u8, 0),
        "high_bits": (u4, NO_EDGE), "high_shares": (u8, 0), "keys": (u8, 0), "divisors": (f4, 1),
    }  # fmt: skip
    return Voters(*(np.array([row.get(key, default) for row in rows], kind) for key, (kind, default) in kinds.items()))


def merge(
    base: Weights,
    rows: npt.NDArray[Any],
    at: int,
    start: int,
    who: Voters,
    elect: bool,
    mean: bool,
    scale: float,
    out: Weights,
) -> None:
    """Merge one block into ``out``, rounded.

    Args:
        base: The base's entries, as BF16 bits or fp32.
        rows: One row per vector; the block starts at column ``at``.
        at: See ``rows``.
        start: The block's position in the tensor, which random draws depend on.
        who: How each vector takes part.
        elect: Keep only the sign with more mass at each entry, instead of summing all vectors.
        mean: Divide by the sum of the elected vectors' weights.
        scale: λ.
        out: Where W goes, in the form of ``base``.
    """
    finish = _merge_bf16 if out.dtype == u2 else _merge_fp32
    finish(read(base), read(rows), at, u8(start), *who, elect, mean, f4(scale), out)


def band(w: Weights, base: Weights, low: int, high: int, found: npt.NDArray[np.uint32]) -> tuple[int, int, int, int]:
    """Count the magnitudes of τ relative to a band, and collect those strictly inside in ``found``.

    Args:
        w: Weights, or τ in fp32 if ``base`` is empty.
        base: The base's entries in the form of ``w``, or an empty array.
        low: Bits of the lower end.
        high: Bits of the upper end.
        found: Where magnitudes inside the band go.

    Returns:
        How many are above ``high``, equal to ``high``, inside (-1 if ``found`` is too short), and equal to ``low``.
    """
    loop = _band_weights if len(base) else _band_deltas
    above, top, inside, bottom = loop(read(w), read(base), u4(low), u4(high), found)
    return int(above), int(top), int(inside), int(bottom)


def _jit(function: F) -> F:
    """Like ``compiled._jit``, with IEEE division, where 0/0 is a NaN (that is never used) and not an error."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]


@_jit
def _difference_bf16(w: Any, base: Any, tau: Any) -> None:
    for i in range(len(tau)):
        tau[i] = u4(u4(w[i]) << u4(16)).view(f4) - u4(u4(base[i]) << u4(16)).view(f4)


@_jit
def _cut(tau: Any, low: Any, low_share: Any, high: Any, high_share: Any, first: Any) -> None:
    """Keep magnitudes above ``low`` and not above ``high``; ties are drawn, and ``first`` is the first entry's draw."""
    if low_share == u8(0) and high == u4(NO_EDGE):
        for i in range(len(tau)):
            size = u4(f4(tau[i]).view(u4) & u4(0x7FFFFFFF))
            tau[i] = tau[i] if size > low else f4(0)
        return
    if high == u4(NO_EDGE):
        for i in range(len(tau)):
            size = u4(f4(tau[i]).view(u4) & u4(0x7FFFFFFF))
            drawn = u8(first + u8(u8(i) * u8(_PHI))) < low_share
            tau[i] = tau[i] if (size > low) | ((size == low) & drawn) else f4(0)
        return
    for i in range(len(tau)):
        size = u4(f4(tau[i]).view(u4) & u4(0x7FFFFFFF))
        draw = u8(first + u8(u8(i) * u8(_PHI)))
        kept = (size > low) | ((size == low) & (draw < low_share))
        dropped = (size > high) | ((size == high) & (draw < high_share))
        tau[i] = tau[i] if kept & ~dropped else f4(0)


@_jit
def _chance(tau: Any, bound: Any, key: Any, start: Any) -> None:
    """Keep the entries whose SplitMix64 number is below ``bound``."""
    for i in range(len(tau)):
        z = u8(u8(u8(start + u8(i)) + u8(1)) * u8(_PHI)) + key
        z = u8(u8(z ^ u8(z >> u8(30))) * u8(_MIX_1))
        z = u8(u8(z ^ u8(z >> u8(27))) * u8(_MIX_2))
        z = u8(z ^ u8(z >> u8(31)))
        tau[i] = tau[i] if z < bound else f4(0)


@_jit
def _thin(
    tau: Any, k: Any, kinds: Any, low: Any, lows: Any, high: Any, highs: Any, keys: Any, by: Any, at: Any
) -> None:
    """Thin the τ of vector k in place; ``at`` is the tile's position in the tensor."""
    if kinds[k] == u1(CUT):
        _cut(tau, low[k], lows[k], high[k], highs[k], u8(u8(keys[k] + at) * u8(_PHI)))
    elif kinds[k] == u1(RANDOM):
        _chance(tau, lows[k], keys[k], at)
    if by[k] != f4(1):
        for i in range(len(tau)):
            tau[i] = tau[i] / by[k]


@_jit
def _vote(tau: Any, alpha: Any, weight: Any, sums: Any, counts: Any) -> None:
    plus, minus, some, others = sums[0], sums[1], counts[0], counts[1]
    for i in range(len(tau)):
        v = tau[i] * alpha
        plus[i] = plus[i] + (f4(0) if f4(0) > v else v)
        minus[i] = minus[i] + (v if v < f4(0) else f4(0))
        some[i] = some[i] + (f4(0) if v <= f4(0) else weight)
        others[i] = others[i] + (weight if v < f4(0) else f4(0))


@_jit
def _settle(sums: Any, counts: Any, mean: Any, total: Any) -> None:
    plus, minus, some, others = sums[0], sums[1], counts[0], counts[1]
    for i in range(len(total)):
        balance = plus[i] + minus[i]
        one, other = plus[i], minus[i]
        if mean:
            one, other = one / some[i], other / others[i]
        chosen = one if balance > f4(0) else other
        chosen = f4(0) if balance == f4(0) else chosen
        total[i] = chosen if balance == balance else balance


@_jit
def _add(tau: Any, alpha: Any, first: Any, total: Any) -> None:
    if first:
        for i in range(len(total)):
            total[i] = tau[i] * alpha
    else:
        for i in range(len(total)):
            total[i] = total[i] + tau[i] * alpha


@_jit
def _finish_bf16(total: Any, base: Any, scale: Any, out: Any) -> None:
    for i in range(len(out)):
        scaled = total[i] if scale == f4(1) else total[i] * scale
        u = f4(scaled + u4(u4(base[i]) << u4(16)).view(f4)).view(u4)
        rounded = u4(u + u4(0x7FFF) + (u4(u >> u4(16)) & u4(1))) >> u4(16)
        out[i] = u2(0x7FC0) if u4(u & u4(0x7FFFFFFF)) > u4(0x7F800000) else u2(rounded)


@_jit
def _finish_fp32(total: Any, base: Any, scale: Any, out: Any) -> None:
    for i in range(len(out)):
        value = (total[i] if scale == f4(1) else total[i] * scale) + base[i]
        out[i] = value if value == value else f4(np.nan)


@_jit
def _merge_bf16(
    base: Any, rows: Any, at: Any, start: Any, alphas: Any, weights: Any, kinds: Any, low: Any, lows: Any, high: Any,
    highs: Any, keys: Any, by: Any, elect: Any, mean: Any, scale: Any, out: Any,
) -> None:  # fmt: skip
    room, sums, counts = np.empty((2, _TILE), f4), np.empty((2, _TILE), f4), np.empty((2, _TILE), f4)
    for begin in range(0, len(out), _TILE):
        w, to = base[begin : begin + _TILE], out[begin : begin + _TILE]
        tau, total = room[0][: len(to)], room[1][: len(to)]
        sums[:] = f4(0)
        counts[:] = f4(0)
        for k in range(len(alphas)):
            _difference_bf16(rows[k][at + begin : at + begin + len(to)], w, tau)
            _thin(tau, k, kinds, low, lows, high, highs, keys, by, u8(start + u8(begin)))
            if elect:
                _vote(tau, alphas[k], weights[k], sums, counts)
            else:
                _add(tau, alphas[k], k == 0, total)
        if elect:
            _settle(sums, counts, mean, total)
        _finish_bf16(total, w, scale, to)


@_jit
def _merge_fp32(
    base: Any, rows: Any, at: Any, start: Any, alphas: Any, weights: Any, kinds: Any, low: Any, lows: Any, high: Any,
    highs: Any, keys: Any, by: Any, elect: Any, mean: Any, scale: Any, out: Any,
) -> None:  # fmt: skip
    room, sums, counts = np.empty((2, _TILE), f4), np.empty((2, _TILE), f4), np.empty((2, _TILE), f4)
    for begin in range(0, len(out), _TILE):
        w, to = base[begin : begin + _TILE], out[begin : begin + _TILE]
        tau, total = room[0][: len(to)], room[1][: len(to)]
        sums[:] = f4(0)
        counts[:] = f4(0)
        for k in range(len(alphas)):
            tau[:] = rows[k][at + begin : at + begin + len(to)]
            _thin(tau, k, kinds, low, lows, high, highs, keys, by, u8(start + u8(begin)))
            if elect:
                _vote(tau, alphas[k], weights[k], sums, counts)
            else:
                _add(tau, alphas[k], k == 0, total)
        if elect:
            _settle(sums, counts, mean, total)
        _finish_fp32(total, w, scale, to)


@_jit
def _place(size: Any, low: Any, high: Any, found: Any, inside: Any) -> Any:
    """Append the magnitudes strictly inside the band; returns the new count, or -1 if ``found`` is full."""
    for i in range(len(size)):
        if low < size[i] and size[i] < high:
            if inside >= len(found):
                return np.int64(-1)
            found[inside] = size[i]
            inside += 1
    return np.int64(inside)


@_jit
def _count(size: Any, low: Any, high: Any, totals: Any) -> Any:
    """Add to the counts above, at the top and at the bottom; returns whether anything is strictly inside."""
    above = top = bottom = hit = u4(0)
    for i in range(len(size)):
        above = u4(above + u4(size[i] > high))
        top = u4(top + u4(size[i] == high))
        bottom = u4(bottom + u4(size[i] == low))
        hit = u4(hit | u4((low < size[i]) & (size[i] < high)))
    totals[0] += above
    totals[1] += top
    totals[2] += bottom
    return hit


@_jit
def _band_weights(w: Any, base: Any, low: Any, high: Any, found: Any) -> Any:
    totals, sizes, inside = np.zeros(3, np.int64), np.empty(_LOOK, u4), np.int64(0)
    for start in range(0, len(w), _LOOK):
        one, other = w[start : start + _LOOK], base[start : start + _LOOK]
        size = sizes[: len(one)]
        for i in range(len(size)):
            tau = u4(u4(one[i]) << u4(16)).view(f4) - u4(u4(other[i]) << u4(16)).view(f4)
            size[i] = u4(f4(tau).view(u4) & u4(0x7FFFFFFF))
        if _count(size, low, high, totals) and inside >= 0:
            inside = _place(size, low, high, found, inside)
    return totals[0], totals[1], inside, totals[2]


@_jit
def _band_deltas(tau: Any, base: Any, low: Any, high: Any, found: Any) -> Any:
    totals, sizes, inside = np.zeros(3, np.int64), np.empty(_LOOK, u4), np.int64(0)
    for start in range(0, len(tau), _LOOK):
        some = tau[start : start + _LOOK]
        size = sizes[: len(some)]
        for i in range(len(size)):
            size[i] = u4(f4(some[i]).view(u4) & u4(0x7FFFFFFF))
        if _count(size, low, high, totals) and inside >= 0:
            inside = _place(size, low, high, found, inside)
    return totals[0], totals[1], inside, totals[2]
