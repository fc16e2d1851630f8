"""model_stock: between base and mean, closer to the mean the more runs agree (Jang et al. 2024, arXiv:2403.19522).

    dᵢ  = αᵢ τᵢ,  k vectors
    cos = the mean of cos(dᵢ, dⱼ) over all pairs
    t   = k cos / ((k - 1) cos + 1)
    δ   = t · Σ dᵢ / k

Angles are between whole tensors. A single vector has t = 1. A vector that does not change a tensor counts there with an
angle of 90° to all others. t is clamped to 0 … 1: where runs point apart, the base is the best guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Coefficients, Gram
from persona.methods.parts.parameters import Parameter, Value
from persona.methods.parts.share import Share
from persona.methods.parts.sphere import cosine

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS: Mapping[str, Parameter] = {}
EVERY = True


def coefficients(gram: Gram, shares: Sequence[Share], parameters: Mapping[str, Value]) -> Coefficients:
    """Return t αᵢ / k for each vector."""
    count = len(shares)
    signs = [-1.0 if share.alpha < 0 else 1.0 for share in shares]
    pairs = list(combinations(range(count), 2))
    cosines = [
        signs[i] * signs[j] * cosine(gram[i + 1][j + 1], gram[i + 1][i + 1], gram[j + 1][j + 1]) for i, j in pairs
    ]
    mean = sum(cosines) / len(pairs) if pairs else 1.0
    return Coefficients(0.0, [ratio(mean, count) * share.alpha / count for share in shares])


def ratio(cos: float, count: int) -> float:
    """Return t, clamped to 0 … 1; 0 at and beyond the pole of the formula."""
    below = (count - 1) * cos + 1
    return min(1.0, max(0.0, count * cos / below)) if below > 0 else 0.0


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Compute t times the mean."""
    import torch

    moved = [(share.alpha * tau).double() for tau, share in zip(deltas, shares, strict=True)]
    count, mean = len(moved), torch.stack(moved).mean(0)
    angles = [torch.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=0).nan_to_num(0)
              for a, b in combinations(moved, 2)]  # fmt: skip
    cos = torch.stack(angles).mean() if angles else torch.tensor(1.0, dtype=torch.float64)
    t = count * cos / ((count - 1) * cos + 1)
    return (t.nan_to_num(0).clamp(0, 1) * mean).float()
