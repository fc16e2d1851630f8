"""ramplus_tl: ram, with what a vector changes alone strengthened to make up for what it shares (RAM+, tensor-local; 2026,
arXiv:2601.13572).

    mᵢ = 1 where |τᵢ| > epsilon, else 0                 per entry
    ρᵢ = how many of its entries vector i shares / how many it has alone, in the tensor
    λᵢ = 1 + r · min(ρᵢ, limit)
    δ  = λᵢ αᵢ τᵢ where only mᵢ is 1; Σ mᵢ αᵢ τᵢ / Σ mᵢ where several are

As mergekit's, ρ is of each tensor and not of the whole vector. The ``limit`` is called alpha there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.changed import EPSILON, changes, counted
from persona.methods.parts.parameters import Number, Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.work import Float32, Piece, Work

PARAMETERS: Mapping[str, Parameter] = {
    "r": Number(0.1, 0, 10, "Gain of the entries that a vector has alone, where it shares as many."),
    "limit": Number(0.2, 0, 1e6, "Largest ratio of shared to own entries that counts."),
    "epsilon": EPSILON,
}


def prepare(work: Work) -> list[float]:
    """Return λᵢ, from one pass that counts."""
    import numpy as np

    shared, own = np.zeros(len(work.shares), np.int64), np.zeros(len(work.shares), np.int64)
    for piece in work.pieces():
        masks = changes(piece.deltas, float(work.parameters["epsilon"]))
        several = sum(mask.astype(np.int32) for mask in masks) > 1
        for number, mask in enumerate(masks):
            together = int(np.count_nonzero(mask & several))
            shared[number] += together
            own[number] += int(np.count_nonzero(mask)) - together
    r, limit = float(work.parameters["r"]), float(work.parameters["limit"])
    return [1 + r * min(s / o, limit) if o else 1.0 for s, o in zip(shared.tolist(), own.tolist(), strict=True)]


def combine(work: Work, piece: Piece, state: list[float]) -> Float32:
    """Return δ of one block; overwrites its τ."""
    masks = changes(piece.deltas, float(work.parameters["epsilon"]))
    return counted(piece.deltas, masks, work.shares, state)


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Count entries, then add up those that are alone and those that are shared."""
    import torch

    masks = torch.stack([tau.abs() > float(parameters["epsilon"]) for tau in deltas])
    count = masks.sum(0)
    total = torch.zeros_like(base)
    for tau, mask, share in zip(deltas, masks, shares, strict=True):
        alone, together = mask & (count == 1), mask & (count > 1)
        ratio = int(together.sum()) / int(alone.sum()) if alone.any() else 0.0
        gain = 1 + float(parameters["r"]) * min(ratio, float(parameters["limit"]))
        value = tau * share.alpha
        total += torch.where(alone, value * gain, 0.0) + torch.where(together, value / count.clamp(min=1), 0.0)
    return total
