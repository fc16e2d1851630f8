"""Checks that the compiled merging loops give numpy's bits on this machine, once per process that uses them."""

from __future__ import annotations

from typing import Any

import numpy as np

from persona.kernels import check, merging
from persona.methods.parts import chance, family
from persona.methods.parts.family import Thinned
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import NO_EDGE, Cut, Edge, Share
from persona.methods.parts.work import Piece, Work

_KEY = 0x243F6A8885A308D3
_THINNINGS = (
    Thinned(Cut(Edge(0x38000000, 1 << 63))),
    Thinned(Cut(Edge(0x38000000, 1 << 62), Edge(0x3C000000, 1 << 61))),
    Thinned(keep=0.3, divide=0.3),
    Thinned(),
)


def merging_agrees() -> bool:
    """Try sums and elections with every kind of thinning, on entries where mistakes show."""
    try:
        return all(
            _agrees(form, combine, normalize)
            for form in ("BF16", "F32")
            for combine, normalize in (("sum", "none"), ("elect", "count"), ("elect", "weights"))
        )
    except Exception:  # whatever is wrong with the compiler, numpy can do the work
        return False


def _agrees(form: str, combine: str, normalize: str) -> bool:
    width = 2 if form == "BF16" else 4
    base, *rows = (check.weights(width, seed) for seed in range(1 + len(_THINNINGS)))
    shares = tuple(Share(alpha, _KEY + n) for n, alpha in enumerate((0.5, -1.25, 1.0, 3.0)))
    with np.errstate(all="ignore"):
        ours = _compiled(base, np.stack(rows), shares, combine, normalize)
        theirs = _plain(base, rows, shares, combine, normalize)
    return check.same(ours, theirs)


def _compiled(base: Any, rows: Any, shares: tuple[Share, ...], combine: str, normalize: str) -> Any:
    out = np.empty_like(base)
    weights = [family.weight(share, normalize) for share in shares]
    voters = merging.voters([voter(*vote) for vote in zip(shares, _THINNINGS, weights, strict=True)])
    merging.merge(base, rows, 0, 77, voters, combine == "elect", any(weights), 0.7, out)
    return out


def _plain(base: Any, rows: list[Any], shares: tuple[Share, ...], combine: str, normalize: str) -> Any:
    wide = [_fp32(values) for values in (base, *rows)]
    taus = [values - wide[0] if base.dtype == np.uint16 else values for values in wide[1:]]
    work = Work("", base.shape, shares, {"normalize": normalize}, lambda n: iter(()), lambda: iter(()))
    delta = family.combine(Family("", combine), work, Piece(77, wide[0], taus), _THINNINGS)
    delta *= np.float32(0.7)
    delta += wide[0]
    delta[np.isnan(delta)] = np.nan
    if base.dtype != np.uint16:
        return delta
    bits = delta.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(delta), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _fp32(values: Any) -> Any:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.copy()


def voter(share: Share, thinned: Thinned, weight: float) -> dict[str, Any]:
    """One vector as :func:`persona.kernels.merging.voters` expects it."""
    fields: dict[str, Any] = {"alphas": share.alpha, "weights": weight, "keys": share.key, "divisors": thinned.divide}
    if thinned.cut is not None:
        low, high = thinned.cut
        fields |= {"kinds": merging.CUT, "low_bits": low.bits, "low_shares": low.share}
        fields |= {"high_bits": high.bits, "high_shares": high.share} if high else {"high_bits": NO_EDGE}
    elif thinned.keep < 1:
        fields |= {"kinds": merging.RANDOM, "low_shares": chance.bound(thinned.keep)}
    return fields
