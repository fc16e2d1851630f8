"""Whether the compiled merging loops give numpy's bits on this machine: asked once by each process that uses them."""

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
_HOWS = (
    Thinned(Cut(Edge(0x38000000, 1 << 63))),
    Thinned(Cut(Edge(0x38000000, 1 << 62), Edge(0x3C000000, 1 << 61))),
    Thinned(keep=0.3, divide=0.3),
    Thinned(),
)


def merging_agrees() -> bool:
    """Sums and elections, of every kind of thinning, on entries where mistakes show."""
    try:
        return all(
            _agrees(form, combine, normalize)
            for form in ("BF16", "F32")
            for combine, normalize in (("sum", "none"), ("elect", "count"), ("elect", "weights"))
        )
    except Exception:  # whatever is wrong with a compiler, numpy does the same
        return False


def _agrees(form: str, combine: str, normalize: str) -> bool:
    width = 2 if form == "BF16" else 4
    base, *rows = (check.weights(width, seed) for seed in range(1 + len(_HOWS)))
    shares = tuple(Share(alpha, _KEY + n) for n, alpha in enumerate((0.5, -1.25, 1.0, 3.0)))
    with np.errstate(all="ignore"):
        ours = _compiled(base, np.stack(rows), shares, combine, normalize)
        theirs = _plain(base, rows, shares, combine, normalize)
    return check.same(ours, theirs)


def _compiled(base: Any, rows: Any, shares: tuple[Share, ...], combine: str, normalize: str) -> Any:
    out = np.empty_like(base)
    weights = [family.weight(share, normalize) for share in shares]
    who = merging.voters([voter(*one) for one in zip(shares, _HOWS, weights, strict=True)])
    merging.merge(base, rows, 0, 77, who, combine == "elect", any(weights), 0.7, out)
    return out


def _plain(base: Any, rows: list[Any], shares: tuple[Share, ...], combine: str, normalize: str) -> Any:
    wide = [_fp32(one) for one in (base, *rows)]
    taus = [one - wide[0] if base.dtype == np.uint16 else one for one in wide[1:]]
    work = Work("", base.shape, shares, {"normalize": normalize}, lambda n: iter(()), lambda: iter(()))
    delta = family.combine(Family("", combine), work, Piece(77, wide[0], taus), _HOWS)
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


def voter(share: Share, how: Thinned, weight: float) -> dict[str, Any]:
    """One vector as the loops want it."""
    said: dict[str, Any] = {"alphas": share.alpha, "weights": weight, "keys": share.key, "divisors": how.divide}
    if how.cut is not None:
        low, high = how.cut
        said |= {"kinds": merging.CUT, "low_bits": low.bits, "low_shares": low.share}
        said |= {"high_bits": high.bits, "high_shares": high.share} if high else {"high_bits": NO_EDGE}
    elif how.keep < 1:
        said |= {"kinds": merging.RANDOM, "low_shares": chance.bound(how.keep)}
    return said
