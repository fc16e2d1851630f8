"""nuslerp: interpolate along the great circle between two task vectors (mergekit's NuSLERP).

    t = α_b / (α_a + α_b)
    θ = the angle between τ_a and τ_b
    δ = sin((1 - t)θ)/sin θ · τ_a + sin(tθ)/sin θ · τ_b

Unlike slerp, it rotates the changes, not the models, so the weights that both runs share with the base do not hide
their angle. Two vectors with the same direction give their weighted mean. Only the ratio of the alphas matters, not
their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts import sphere
from persona.methods.parts.kinds import Coefficients, Gram
from persona.methods.parts.parameters import Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS: Mapping[str, Parameter] = {}
EVERY = True
VECTORS = (2, 2)


def check_alphas(alphas: Sequence[float]) -> str | None:
    """Return what is wrong if t is not between 0 and 1."""
    return "nuslerp takes alphas of one sign: their ratio says how far to go" if min(alphas) < 0 < max(alphas) else None


def coefficients(gram: Gram, shares: Sequence[Share], parameters: Mapping[str, Value]) -> Coefficients:
    """Return the weights of both vectors."""
    a, b = (share.alpha for share in shares)
    cos = sphere.cosine(gram[1][2], gram[1][1], gram[2][2])
    return Coefficients(0.0, list(sphere.arc(b / (a + b), cos)))


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Compute it in fp64."""
    import torch

    a, b = (tau.double() for tau in deltas)
    t = shares[1].alpha / (shares[0].alpha + shares[1].alpha)
    theta = torch.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=0).nan_to_num(0).clamp(-1, 1).acos()
    if theta.sin().abs() < 1e-8:
        return ((1 - t) * a + t * b).float()
    return ((((1 - t) * theta).sin() * a + (t * theta).sin() * b) / theta.sin()).float()
