"""The family "sparsify, then combine", block by block.

    τ̂ᵢ = sparsified τᵢ       nothing · trim · outliers · random · ranked
    vᵢ = αᵢ τ̂ᵢ               a negative alpha makes just another vector
    δ  = Σ vᵢ                 sum
       = elected mean          elect:  P = Σ_{vᵢ > 0} vᵢ,  N = Σ_{vᵢ < 0} vᵢ;  the sign is that of P + N;
                               P/p or N/n, where p and n are their counts (or sums of weights); 0 if P + N = 0

All in fp32, sums in recipe order, every product, sum and quotient rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts import chance, order, ranks
from persona.methods.parts.kinds import Family
from persona.methods.parts.share import Cut, Edge, Share
from persona.methods.parts.sums import Dot
from persona.methods.parts.work import Piece, Work

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32


@dataclass(frozen=True)
class Thinned:
    """How one vector is sparsified at one tensor.

    Attributes:
        cut: Keep by magnitude.
        keep: Keep at random, with this probability.
        ranked: Keep at random, with a probability by rank.
        divide: Divisor of the kept entries; None means the probability of each rank.
    """

    cut: Cut | None = None
    keep: float = 1.0
    ranked: bool = False
    divide: float | None = 1.0


def prepare(family: Family, work: Work) -> list[Thinned]:
    """Find out what the first block needs to know of the whole tensor."""
    return [_PREPARE[family.sparsify](work, number, share) for number, share in enumerate(work.shares)]


def combine(family: Family, work: Work, piece: Piece, thinned: Sequence[Thinned]) -> Float32:
    """Return δ of one block; overwrites its deltas."""
    values = []
    for tau, share, how in zip(piece.deltas, work.shares, thinned, strict=True):
        value = sparse(tau, share, how, piece.start, work.columns)
        value *= np.float32(share.alpha)
        values.append(value)
    if family.combine == "sum":
        return total(values)
    weights = [weight(share, str(work.parameters["normalize"])) for share in work.shares]
    return elect(values, values, weights)


def sparse(tau: Float32, share: Share, how: Thinned, start: int, columns: int) -> Float32:
    """Return τ̂ of one block; may overwrite `tau`.

    Args:
        start: Position of the block's first entry in the tensor.
        columns: Length of the tensor's rows.
    """
    if how.cut is not None:
        tau[~_inside(how.cut, order.magnitudes(tau), share.key, start)] = 0
    if how.ranked:
        chances = ranks.chances(tau.reshape(-1, columns), share.number("density"), share.number("epsilon")).reshape(-1)
        tau[chance.uniform(share.key, start, len(tau)) >= chances] = 0
        tau /= chances.astype(np.float32) if how.divide is None else np.float32(how.divide)
    elif how.keep < 1:
        tau[~chance.kept(share.key, start, len(tau), how.keep)] = 0
    if not how.ranked and how.divide != 1:
        tau /= np.float32(how.divide or 1)
    return tau


def _inside(cut: Cut, sizes: Any, key: int, start: int) -> Any:
    kept = order.above(cut.low, sizes, key, start)
    if cut.high is not None:
        kept &= ~order.above(cut.high, sizes, key, start)
    return kept


def total(values: list[Float32]) -> Float32:
    """Return Σ vᵢ, added in order; overwrites the first."""
    first, *others = values
    for value in others:
        first += value
    return first


def weight(share: Share, normalize: str) -> float:
    """Return a vector's weight in the mean of those that agree; 0 for a sum."""
    return {"count": 1.0, "weights": abs(share.alpha), "none": 0.0}[normalize]


def elect(values: list[Float32], parts: list[Float32], weights: Sequence[float]) -> Float32:
    """Return the elected mean.

    Args:
        values: The vᵢ whose signs are elected. A NaN counts as positive, and so gets into the result.
        parts: What is added up for the elected sign.
        weights: The divisor is the sum of these; if all are 0, the result is a sum.
    """
    sums = np.zeros((2, len(values[0])), np.float32)
    mass = sums if parts is values else np.zeros_like(sums)
    counts = np.zeros_like(sums)
    for value, part, share in zip(values, parts, weights, strict=True):
        for side, voting in enumerate((~(value <= 0), value < 0)):
            sums[side] += np.where(voting, part, np.float32(0))
            counts[side] += np.where(voting, np.float32(share), np.float32(0))
            if mass is not sums:
                mass[side] += np.where(voting, value, np.float32(0))
    balance = mass[0] + mass[1]
    if any(weights):
        with np.errstate(all="ignore"):
            sums /= counts
    chosen = np.where(balance > 0, sums[0], sums[1])
    chosen[balance == 0] = 0
    elected: Float32 = np.where(np.isnan(balance), balance, chosen)
    return elected


def _nothing(work: Work, number: int, share: Share) -> Thinned:
    return Thinned()


def _trim(work: Work, number: int, share: Share) -> Thinned:
    if share.cut is not None:
        return Thinned(share.cut)
    density = share.number("density")
    if density >= 1:
        return Thinned()
    return Thinned(Cut(_edge(work, number, order.kept_of(density, work.entries))))


def _outliers(work: Work, number: int, share: Share) -> Thinned:
    """Drop the ⌊γn⌋ largest, and keep the next density · n; drop fewer if there are not enough."""
    kept = order.kept_of(share.number("density"), work.entries)
    top = min(int(share.number("gamma") * work.entries), work.entries - kept)
    return Thinned(Cut(_edge(work, number, top + kept), _edge(work, number, top) if top else None))


def _edge(work: Work, number: int, k: int) -> Edge:
    return order.edge(lambda: order.blocks_of(work.tau(number)), work.entries, k, work.shares[number].key)


def _random(work: Work, number: int, share: Share) -> Thinned:
    density = share.number("density")
    if density >= 1:
        return Thinned()
    return _rescaled(work, number, share, Thinned(keep=density), density)


def _ranked(work: Work, number: int, share: Share) -> Thinned:
    if share.number("density") >= 1:
        return Thinned()
    return _rescaled(work, number, share, Thinned(ranked=True), None)


def _rescaled(work: Work, number: int, share: Share, how: Thinned, own: float | None) -> Thinned:
    rescale = share.parameters["rescale"]
    divide = own if rescale == "density" else _l1_kept(work, number, share, how) if rescale == "l1" else 1.0
    return replace(how, divide=divide)


def _l1_kept(work: Work, number: int, share: Share, how: Thinned) -> float:
    """Return the share of Σ|τ| that is kept, summed in fp64; 1 if nothing is kept."""
    whole, kept, start = Dot(), Dot(), 0
    for tau in work.tau(number):
        whole.add(np.abs(tau), None)
        kept.add(np.abs(sparse(tau, share, how, start, work.columns)), None)
        start += len(tau)
    return kept.value / whole.value if kept.value > 0 else 1.0


_PREPARE: dict[str, Callable[[Work, int, Share], Thinned]] = {
    "nothing": _nothing,
    "trim": _trim,
    "outliers": _outliers,
    "random": _random,
    "ranked": _ranked,
}
