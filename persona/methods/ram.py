"""ram: keep what one vector changes, take the mean of what several change (Reinforced Agent Merging; 2026,
arXiv:2601.13572).

    mᵢ = 1 where |τᵢ| > epsilon, else 0                 per entry
    δ  = Σ mᵢ αᵢ τᵢ / max(1, Σ mᵢ)

Changes of at most ``epsilon`` are dropped. That suits reinforcement learning, which leaves most weights alone; LoRA
adapters change all of them a little, so that δ is little more than a mean. Without alphas this is mergekit's ``ram``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.changed import EPSILON, changes, counted
from persona.methods.parts.parameters import Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.work import Float32, Piece, Work

PARAMETERS: Mapping[str, Parameter] = {"epsilon": EPSILON}


def prepare(work: Work) -> None:
    """Do nothing."""


def combine(work: Work, piece: Piece, state: None) -> Float32:
    """Return δ of one block; overwrites its τ."""
    masks = changes(piece.deltas, float(work.parameters["epsilon"]))
    return counted(piece.deltas, masks, work.shares, [1.0] * len(masks))


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Divide by how many change an entry."""
    import torch

    masks = torch.stack([tau.abs() > float(parameters["epsilon"]) for tau in deltas])
    count = masks.sum(0).clamp(min=1).float()
    total = torch.zeros_like(base)
    for tau, mask, share in zip(deltas, masks, shares, strict=True):
        total += torch.where(mask, tau * share.alpha, 0.0) / count
    return total
