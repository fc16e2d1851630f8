"""fisher: a mean in which each vector counts most where its task needs it (Matena and Raffel 2022, arXiv:2111.09832).

    F̂ᵢ = max(rᵢ Fᵢ, floor)
    δ  = Σ αᵢ F̂ᵢ τᵢ / Σ |αᵢ| F̂ᵢ              per entry, over the vectors that change the tensor

``persona fisher`` estimates Fᵢ, the diagonal of the Fisher information of a vector's own task, on the base with only
that vector. The base is not part of the mean. rᵢ makes the diagonals comparable:

    rᵢ = c / sᵢ,   sᵢ = mean Fᵢ ("mean"), ‖Fᵢ‖₂ ("norm") or 1 ("none"), over all tensors of a vector
    c  so that rᵢ · mean Fᵢ averages to 1 over the vectors at the tensor

so ``floor`` is relative to a typical F, whatever its size. Entries that no task needs, where every F̂ᵢ is the floor,
get the plain mean Σ αᵢτᵢ / Σ |αᵢ|. So does a tensor for which a vector has no diagonal.

Alphas are the weights of the mean, and λ the strength of the result. A negative alpha weighs by its size and flips the
sign of its τ, so the divisor is never 0. A vector that is alone at a tensor gives τ, with the sign of its alpha.

|αᵢ| / Σ |αⱼ| and rᵢ are computed in fp64 and rounded to fp32; every product, sum and quotient is rounded, in recipe
order.
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
        "Scale that a vector's F is divided by to compare it with the others': its mean, its L2 norm, or none.",
    ),
    "floor": Number(1e-6, 1e-12, 1, "Minimum weight of an entry, relative to the mean weight."),
}
WEIGHTED = True

TINY = 1e-30
"""A mean of F below this counts as 0."""


def ratios(shares: Sequence[Share], normalize: str) -> list[float]:
    """Return rᵢ, 0 for a vector whose F is 0 everywhere."""
    scales = [{"mean": share.size.mean, "norm": share.size.norm, "none": 1.0}[normalize] for share in shares]
    known = [share.size.mean > TINY for share in shares]
    means = [share.size.mean / s for share, s, is_known in zip(shares, scales, known, strict=True) if is_known]
    return [len(means) / sum(means) / s if is_known else 0.0 for s, is_known in zip(scales, known, strict=True)]


def parts(shares: Sequence[Share]) -> list[float]:
    """Return |αᵢ| / Σ |αⱼ|."""
    whole = sum(abs(share.alpha) for share in shares)
    return [abs(share.alpha) / whole for share in shares]


def prepare(work: Work) -> list[tuple[float, float]]:
    """Return |αᵢ| / Σ |αⱼ| and rᵢ of each vector."""
    return list(zip(parts(work.shares), ratios(work.shares, str(work.parameters["normalize"])), strict=True))


def combine(work: Work, piece: Piece, state: list[tuple[float, float]]) -> Float32:
    """Return δ of one block; overwrites its τ and F."""
    import numpy as np

    for tau, share in zip(piece.deltas, work.shares, strict=True):
        if share.alpha < 0:
            np.negative(tau, out=tau)
    if len(piece.deltas) == 1:
        return piece.deltas[0]
    counts = _counts(work, piece, state)
    total, mass = piece.deltas[0], counts[0]
    total *= counts[0]
    for tau, count in zip(piece.deltas[1:], counts[1:], strict=True):
        tau *= count
        total += tau
        mass = mass + count
    total /= mass
    return total


def _counts(work: Work, piece: Piece, state: list[tuple[float, float]]) -> list[Any]:
    """Return |αᵢ| F̂ᵢ / Σ |αⱼ|: an array by entry, or one number if there is no F."""
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
    """Compute Σ αF̂τ / Σ |α|F̂."""
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
        floor = float(fp32(float(parameters["floor"])))
        scaled = [torch.clamp(weight * fp32(r), min=floor) for weight, r in zip(weights, ratio, strict=True)]
        counts = [weight * part for weight, part in zip(scaled, counts, strict=True)]
    moved = [count * tau for count, tau in zip(counts, signed, strict=True)]
    return oracle.total(moved) / oracle.total(counts)
