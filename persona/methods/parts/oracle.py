"""The parts in plain torch, over whole tensors, for the methods' references.

Shares no code with the builds, whose loops are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from persona.methods.parts.parameters import Value
from persona.methods.parts.share import Share

PHI, M64 = 0x9E3779B97F4A7C15, (1 << 64) - 1


def draw(key: int, place: int) -> int:
    """Return (key + j) · φ mod 2⁶⁴."""
    return (key + place) * PHI & M64


def largest(tau: Tensor, k: int, key: int) -> Tensor:
    """Return a mask of the k largest magnitudes; among those equal to the k-th, the draw decides."""
    sizes = tau.abs().flatten().view(torch.int32)  # non-negative floats are ordered as their bits
    if k >= len(sizes):
        return torch.ones_like(tau, dtype=torch.bool)
    bound = torch.sort(sizes, descending=True).values[k - 1]
    kept, equal = sizes > bound, torch.nonzero(sizes == bound).flatten().tolist()
    needed = k - int(kept.sum())
    drawn = [draw(key, place) for place in equal]
    if len(sizes) <= 1 << 16:
        chosen = sorted(range(len(equal)), key=drawn.__getitem__)[:needed]
    else:
        share = (needed << 64) // len(equal)
        chosen = [number for number, value in enumerate(drawn) if value < share]
    kept[[equal[number] for number in chosen]] = True
    return kept.view(tau.shape)


def wanted(density: float, entries: int) -> int:
    """Return density · n, rounded to nearest, at least 1."""
    return min(entries, max(1, int(density * entries + 0.5)))


def trim(tau: Tensor, share: Share) -> Tensor:
    """Return τ with all but its density · n largest magnitudes set to 0."""
    mask = largest(tau, wanted(share.number("density"), tau.numel()), share.key)
    return torch.where(mask, tau, 0)


def random_bits(key: int, count: int) -> list[int]:
    """Return SplitMix64 draws: the finalizer of key + (j + 1) · γ."""
    draws = []
    for place in range(count):
        z = key + (place + 1) * PHI & M64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
        draws.append(z ^ z >> 31)
    return draws


def uniform(tau: Tensor, share: Share) -> Tensor:
    """Return a number in [0, 1) for each entry, fp64."""
    numbers = [(bits >> 11) * 2.0**-53 for bits in _bits(tau, share)]
    return torch.tensor(numbers, dtype=torch.float64).view(tau.shape)


def _bits(tau: Tensor, share: Share) -> list[int]:
    return random_bits(share.key, tau.numel())


def keep_at_random(tau: Tensor, share: Share) -> Tensor:
    """Return a mask that keeps each entry with probability `density`."""
    bound = int(share.number("density") * 2.0**64)
    return torch.tensor([bits < bound for bits in _bits(tau, share)], dtype=torch.bool).view(tau.shape)


def rescaled(tau: Tensor, mask: Tensor, probability: Tensor | float, share: Share) -> Tensor:
    """Return kept entries, divided by their probability, by the share of the L1 norm that is kept, or not at all."""
    kept = torch.where(mask, tau, 0)
    if share.parameters["rescale"] == "density":
        by = probability.float() if isinstance(probability, Tensor) else torch.tensor(probability, dtype=torch.float32)
        return kept / by
    if share.parameters["rescale"] == "l1":
        left, whole = float(kept.double().abs().sum()), float(tau.double().abs().sum())
        return kept / torch.tensor(left / whole, dtype=torch.float32) if left > 0 else kept
    return kept


def total(values: Sequence[Tensor]) -> Tensor:
    """Return Σ vᵢ, added in order."""
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def weights(shares: Sequence[Share], parameters: Mapping[str, Value]) -> list[float]:
    """Return the weight of each vector in the mean: 1, |α|, or 0 for a sum."""
    return [{"count": 1.0, "weights": abs(s.alpha), "none": 0.0}[str(parameters["normalize"])] for s in shares]


def elect(values: Sequence[Tensor], weights: Sequence[float], parts: Sequence[Tensor] | None = None) -> Tensor:
    """Elect the sign with more mass for each entry; return the (weighted) mean of the vectors that have it."""
    parts = values if parts is None else parts
    zero = torch.zeros_like(values[0])
    sides = []
    for sign in (1, -1):
        voting = [value * sign > 0 for value in values]
        mass = total([torch.where(vote, value, zero) for vote, value in zip(voting, values, strict=True)])
        part = total([torch.where(vote, value, zero) for vote, value in zip(voting, parts, strict=True)])
        count = total(
            [torch.where(vote, share, zero) for vote, share in zip(voting, map(torch.tensor, weights), strict=True)]
        )
        sides.append((mass, part / count if any(weights) else part))
    balance = sides[0][0] + sides[1][0]
    return torch.where(balance > 0, sides[0][1], torch.where(balance < 0, sides[1][1], zero))


def drop_by_rank(tau: Tensor, share: Share) -> Tensor:
    """Return DELLA's τ̂: the larger an entry in its row, the likelier it is kept; rescaled by its probability."""
    if share.number("density") >= 1:
        return tau
    rows = tau.reshape(-1, tau.shape[-1] if tau.ndim > 1 else tau.numel())
    rank = rows.abs().argsort(dim=1, stable=True).argsort(dim=1).double()
    step = 2 * share.number("epsilon") / max(1, rows.shape[1] - 1)
    start = share.number("density") - (share.number("epsilon") if rows.shape[1] > 1 else 0)
    chance = (start + rank * step).view(tau.shape)
    return rescaled(tau, uniform(tau, share) < chance, chance, share)


def mask_ends(tau: Tensor, share: Share) -> Tensor:
    """Return Breadcrumbs' τ̂: drop the outliers, and keep the largest of the rest."""
    kept = wanted(share.number("density"), tau.numel())
    top = min(int(share.number("gamma") * tau.numel()), tau.numel() - kept)
    mask = largest(tau, top + kept, share.key)
    if top:
        mask &= ~largest(tau, top, share.key)
    return torch.where(mask, tau, 0)
