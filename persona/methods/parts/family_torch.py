"""The family "sparsify, then combine" on a torch device, over whole tensors: the operations of ``family``, in its
order.

torch has no uint64 arithmetic, so 64-bit draws are int64, which wrap around alike; flipping the top bit compares them
as unsigned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from persona.methods.parts import order
from persona.methods.parts.chance import GAMMA, MIX_1, MIX_2, bound
from persona.methods.parts.family import weight
from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import Value
from persona.methods.parts.share import ALL, Cut, Edge, Share

_TOP = -(1 << 63)


def combine(
    kind: Family, taus: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value], columns: int
) -> Tensor:
    """Return δ.

    Args:
        taus: Flat fp32 tensors on one device.
        columns: Length of the tensor's rows.
    """
    values = [_sparse(kind, tau, share, columns) * share.alpha for tau, share in zip(taus, shares, strict=True)]
    if kind.combine == "sum":
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total
    return _elect(values, [weight(share, str(parameters["normalize"])) for share in shares])


def _signed(number: int) -> int:
    """Return the int64 with the same 64 bits."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def _below(drawn: Tensor, limit: int) -> Tensor:
    """Return drawn < limit, both unsigned."""
    return (drawn ^ _TOP) < (_signed(limit) ^ _TOP)


def _sparse(kind: Family, tau: Tensor, share: Share, columns: int) -> Tensor:
    if kind.sparsify in ("trim", "outliers"):
        cut = share.cut or _cut(kind, tau, share)
        return tau if cut is None else torch.where(_inside(cut, _sizes(tau), share.key), tau, 0)
    if kind.sparsify == "nothing" or share.number("density") >= 1:
        return tau
    if kind.sparsify == "random":
        mask = _below(_random(tau, share.key), bound(share.number("density")))
        return _rescaled(tau, mask, torch.tensor(share.number("density"), device=tau.device), share)
    chance = _chances(tau, share, columns)
    uniform = (_shift(_random(tau, share.key), 11)).double() * 2.0**-53
    return _rescaled(tau, uniform < chance, chance.float(), share)


def _sizes(tau: Tensor) -> Tensor:
    return tau.view(torch.int32) & 0x7FFFFFFF


def _cut(kind: Family, tau: Tensor, share: Share) -> Cut | None:
    entries, density = tau.numel(), share.number("density")
    kept = order.kept_of(density, entries)
    if kind.sparsify == "trim":
        return Cut(_edge(tau, kept, share.key)) if density < 1 else None
    top = min(int(share.number("gamma") * entries), entries - kept)
    return Cut(_edge(tau, top + kept, share.key), _edge(tau, top, share.key) if top else None)


def _edge(tau: Tensor, k: int, key: int) -> Edge:
    entries = tau.numel()
    if k >= entries:
        return Edge(ALL)
    if entries <= order.SMALL:
        few = order.magnitudes(tau.cpu().numpy())
        return order.edge(lambda: iter([few]), entries, k, key)
    sizes = _sizes(tau)
    bits = int(torch.kthvalue(sizes, entries - k + 1).values)
    return order.share_of(bits, int((sizes > bits).sum()), int((sizes == bits).sum()), k)


def _above(edge: Edge, sizes: Tensor, key: int) -> Tensor:
    kept = sizes > edge.bits
    if edge.share:
        draws = (torch.arange(len(sizes), device=sizes.device) + _signed(key)) * _signed(order.PHI)
        kept |= (sizes == edge.bits) & _below(draws, edge.share)
    return kept


def _inside(cut: Cut, sizes: Tensor, key: int) -> Tensor:
    kept = _above(cut.low, sizes, key)
    return kept if cut.high is None else kept & ~_above(cut.high, sizes, key)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _random(tau: Tensor, key: int) -> Tensor:
    """Return SplitMix64 draws, as ``chance.bits`` does."""
    z = (torch.arange(1, len(tau) + 1, device=tau.device)) * _signed(GAMMA) + _signed(key)
    z = (z ^ _shift(z, 30)) * _signed(MIX_1)
    z = (z ^ _shift(z, 27)) * _signed(MIX_2)
    return z ^ _shift(z, 31)


def _chances(tau: Tensor, share: Share, columns: int) -> Tensor:
    density, epsilon = share.number("density"), share.number("epsilon")
    if columns == 1:
        return torch.full(tau.shape, density, dtype=torch.float64, device=tau.device)
    rows = _sizes(tau).reshape(-1, columns)
    ranks = rows.argsort(dim=1, stable=True).argsort(dim=1).double()
    return (density - epsilon + ranks * (2 * epsilon / (columns - 1))).reshape(-1)


def _rescaled(tau: Tensor, mask: Tensor, probability: Tensor, share: Share) -> Tensor:
    kept = torch.where(mask, tau, 0)
    if share.parameters["rescale"] == "density":
        return kept / probability
    if share.parameters["rescale"] == "l1":
        left, whole = float(kept.double().abs().sum()), float(tau.double().abs().sum())
        return kept / torch.tensor(left / whole, device=tau.device) if left > 0 else kept
    return kept


def _elect(values: list[Tensor], weights: list[float]) -> Tensor:
    plus, minus, some, others = (torch.zeros_like(values[0]) for _ in range(4))
    for value, share in zip(values, weights, strict=True):
        positive, negative = ~(value <= 0), value < 0
        plus, minus = plus + torch.where(positive, value, 0), minus + torch.where(negative, value, 0)
        some, others = some + positive * share, others + negative * share
    balance = plus + minus
    if any(weights):
        plus, minus = plus / some, minus / others
    chosen = torch.where(balance > 0, plus, minus)
    return torch.where(balance == 0, 0, torch.where(balance.isnan(), balance, chosen))
