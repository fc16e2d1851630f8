"""fisher: the mean, where each vector counts most at the weights that it needs (Matena and Raffel 2022, arXiv:2111.09832).

    F̂ᵢ = max(rᵢ Fᵢ, floor)
    δ  = Σ αᵢ F̂ᵢ τᵢ / Σ |αᵢ| F̂ᵢ              per entry, over the vectors that touch the tensor

Fᵢ is the diagonal of the Fisher information of a vector's own task, on the base with that vector alone: ``persona fisher``
estimates it. The base is no member of the mean. rᵢ makes the diagonals comparable:

    rᵢ = c / sᵢ,   sᵢ = mean Fᵢ ("mean"), ‖Fᵢ‖₂ ("norm") or 1 ("none"), over all of a vector's tensors
    c  so that the rᵢ · mean Fᵢ of the vectors at the tensor are 1 on average

so ``floor`` is a share of what is usual, whatever the size of F. Entries that nobody needs, where all F̂ᵢ are the floor, have
the plain mean Σ αᵢτᵢ / Σ |αᵢ|. So has a tensor for which a vector has no diagonal: a model has none for what it does not use.

It is a mean: alphas say how much each vector counts, and λ how strong all of it is. A negative alpha counts with its size,
and turns its τ round; so nothing is divided by 0. A vector that is alone at a tensor has τ there, with the sign of its alpha.

|αᵢ| / Σ |αⱼ| and rᵢ are found in fp64 and rounded to fp32; every product, sum and quotient is rounded, in recipe order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from persona.methods.parts.parameters import Choice, Number, Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.work import Float32, Piece, Work

PARAMETERS: Mapping[str, Parameter] = {
    "normalize": Choice(
        "mean",
        ("mean", "norm", "none"),
        "What a vector's F is divided by before it is held against the others': its mean, its L2 norm, or nothing.",
    ),
    "floor": Number(1e-6, 1e-12, 1, "Least that an entry counts, as a share of what is usual."),
}
WEIGHTED = True

TINY = 1e-30
"""A mean of F that is none: no entry has any."""


def ratios(shares: Sequence[Share], normalize: str) -> list[float]:
    """rᵢ; 0 for a vector whose F is 0 everywhere."""
    by = [{"mean": one.size.mean, "norm": one.size.norm, "none": 1.0}[normalize] for one in shares]
    there = [one.size.mean > TINY for one in shares]
    usual = [one.size.mean / s for one, s, known in zip(shares, by, there, strict=True) if known]
    return [len(usual) / sum(usual) / s if known else 0.0 for s, known in zip(by, there, strict=True)]


def parts(shares: Sequence[Share]) -> list[float]:
    """|αᵢ| / Σ |αⱼ|."""
    whole = sum(abs(share.alpha) for share in shares)
    return [abs(share.alpha) / whole for share in shares]


def prepare(work: Work) -> list[tuple[float, float]]:
    """Of each vector what it counts for, and rᵢ."""
    return list(zip(parts(work.shares), ratios(work.shares, str(work.parameters["normalize"])), strict=True))


def combine(work: Work, piece: Piece, state: list[tuple[float, float]]) -> Float32:
    """δ of one block; the block's τ and F are used up."""
    import numpy as np

    for tau, share in zip(piece.deltas, work.shares, strict=True):
        if share.alpha < 0:
            np.negative(tau, out=tau)
    if len(piece.deltas) == 1:
        return piece.deltas[0]
    counts = _counts(work, piece, state)
    total, mass = piece.deltas[0], counts[0]
    total *= counts[0]
    for tau, one in zip(piece.deltas[1:], counts[1:], strict=True):
        tau *= one
        total += tau
        mass = mass + one
    total /= mass
    return total


def _counts(work: Work, piece: Piece, state: list[tuple[float, float]]) -> list[Any]:
    """|αᵢ| F̂ᵢ / Σ |αⱼ|, for each entry, or for all of them."""
    import numpy as np

    if not piece.weights:
        return [np.float32(part) for part, _ in state]
    floor = np.float32(work.parameters["floor"])
    for weight, (part, ratio) in zip(piece.weights, state, strict=True):
        weight *= np.float32(ratio)
        np.maximum(weight, floor, out=weight)
        weight *= np.float32(part)
    return list(piece.weights)


def reference(
    base: Tensor,
    deltas: list[Tensor],
    shares: Sequence[Share],
    parameters: Mapping[str, Value],
    weights: Sequence[Tensor] = (),
) -> Tensor:
    """Σ αF̂τ / Σ |α|F̂."""
    import torch

    from persona.methods.parts import oracle

    def fp32(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=base.device)

    signed = [tau * math.copysign(1, share.alpha) for tau, share in zip(deltas, shares, strict=True)]
    if len(signed) == 1:
        return signed[0]
    strength = sum(abs(share.alpha) for share in shares)
    counts = [fp32(abs(share.alpha) / strength).expand_as(base) for share in shares]
    if weights:
        means = [share.size.mean for share in shares]
        sizes = {"mean": means, "norm": [share.size.norm for share in shares], "none": [1.0] * len(shares)}
        pairs = list(zip(means, sizes[str(parameters["normalize"])], strict=True))
        common = [mean / size for mean, size in pairs if mean > TINY]
        ratio = [len(common) / sum(common) / size if mean > TINY else 0.0 for mean, size in pairs]
        usual = [
            torch.clamp(one * fp32(r), min=float(fp32(float(parameters["floor"]))))
            for one, r in zip(weights, ratio, strict=True)
        ]
        counts = [one * part for one, part in zip(usual, counts, strict=True)]
    moved = [one * tau for one, tau in zip(counts, signed, strict=True)]
    return oracle.total(moved) / oracle.total(counts)
