"""sce: keep what varies, weight vectors by energy, drop minority signs (Wan et al. 2024, arXiv:2408.07990).

    vᵢ = αᵢ τᵢ
    select     of the entries with Var_i(vᵢ) > 0, keep the share ``select_topk`` with the largest variance
    calculate  ωᵢ = Σ vᵢ² / Σⱼ Σ vⱼ²                   over the kept entries of the tensor
    erase      s = sign(Σ vᵢ) per entry; drop every vᵢ of the other sign
    δ = Σ ωᵢ vᵢ / Σ ωᵢ                                 over those that are left; 0 where s = 0

Variances are fp32, energies fp64. A vector that does not change a tensor counts there as 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from persona.methods.parts.parameters import Number, Parameter, Value
from persona.methods.parts.share import ALL, Edge, Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.work import Float32, Piece, Work

PARAMETERS: Mapping[str, Parameter] = {
    "select_topk": Number(1.0, 0, 1, "Share of the entries with any variance to keep.", beyond=True),
}
EVERY = True


class Selected(NamedTuple):
    """The edge in the order of variances, and the weight of every vector."""

    edge: Edge
    weights: list[float]


def prepare(work: Work) -> Selected:
    """Find the edge in two passes (none if all is kept), and the energies in one."""
    from persona.methods.parts import order
    from persona.methods.parts.sums import Dot

    edge, topk = Edge(ALL), float(work.parameters["select_topk"])
    if topk < 1 and len(work.shares) > 1:
        varied = sum(int((sizes > 0).sum()) for sizes in _variances(work))
        if varied:
            edge = order.edge(lambda: _variances(work), work.entries, max(1, int(varied * topk)), _key(work))
    energies = [Dot() for _ in work.shares]
    for piece in work.pieces():
        for energy, value in zip(energies, _selected(work, piece, edge), strict=True):
            energy.add(value, value)
    whole = sum(energy.value for energy in energies)
    return Selected(edge, [energy.value / whole if whole > 0 else 1.0 for energy in energies])


def _key(work: Work) -> int:
    return work.shares[0].key


def _variances(work: Work) -> Iterator[Any]:
    """Yield magnitudes of variances, block by block."""
    from persona.methods.parts import order

    for piece in work.pieces():
        yield order.magnitudes(_variance(_scaled(work, piece)))


def _scaled(work: Work, piece: Piece) -> list[Float32]:
    import numpy as np

    for tau, share in zip(piece.deltas, work.shares, strict=True):
        tau *= np.float32(share.alpha)
    return piece.deltas


def _variance(values: list[Float32]) -> Float32:
    """Return Σ (vᵢ - mean)² / n in fp32, added in recipe order."""
    import numpy as np

    count = np.float32(len(values))
    mean = values[0].copy()
    for value in values[1:]:
        mean += value
    mean /= count
    total = np.zeros_like(mean)
    for value in values:
        deviation = value - mean
        deviation *= deviation
        total += deviation
    total /= count
    return total


def _selected(work: Work, piece: Piece, edge: Edge) -> list[Float32]:
    from persona.methods.parts import order

    values = _scaled(work, piece)
    if edge == Edge(ALL):
        return values
    kept = order.above(edge, order.magnitudes(_variance(values)), _key(work), piece.start)
    for value in values:
        value[~kept] = 0
    return values


def combine(work: Work, piece: Piece, state: Selected) -> Float32:
    """Return δ of one block."""
    import numpy as np

    from persona.methods.parts.family import elect

    values = _selected(work, piece, state.edge)
    parts = [value * np.float32(weight) for value, weight in zip(values, state.weights, strict=True)]
    return elect(values, parts, state.weights)


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Select, calculate and erase."""
    import torch

    from persona.methods.parts import oracle

    values = torch.stack([share.alpha * tau for tau, share in zip(deltas, shares, strict=True)])
    topk = float(parameters["select_topk"])
    if topk < 1 and len(shares) > 1:
        count = torch.tensor(len(values), dtype=torch.float32)
        mean = oracle.total(list(values)) / count
        variance = oracle.total([(value - mean) * (value - mean) for value in values]) / count
        varied = int((variance > 0).sum())
        if varied:
            mask = oracle.largest(variance, max(1, int(varied * topk)), shares[0].key)
            values = torch.where(mask, values, 0)
    energies = [float((value.double() ** 2).sum()) for value in values]
    weights = [energy / sum(energies) if sum(energies) > 0 else 1.0 for energy in energies]
    return oracle.elect(list(values), weights, [w * value for w, value in zip(weights, values, strict=True)])
