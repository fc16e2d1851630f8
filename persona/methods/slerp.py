"""slerp: interpolate along the great circle between two models (Shoemake 1985).

    A = W_base + α_a τ_a,  B = W_base + α_b τ_b;  with one vector A = W_base
    θ = the angle between A and B, each flattened to one vector
    W = sin((1 - t)θ)/sin θ · A + sin(tθ)/sin θ · B,   δ = W - W_base

t = 0 gives A, t = 1 gives B. Where θ is 0 or π, the interpolation is linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts import sphere
from persona.methods.parts.kinds import Coefficients, Gram
from persona.methods.parts.parameters import Number, Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS: Mapping[str, Parameter] = {
    "t": Number(0.5, 0, 1, "Position between the models: 0 is the first, 1 the second.")
}
EVERY = True
VECTORS = (1, 2)


def coefficients(gram: Gram, shares: Sequence[Share], parameters: Mapping[str, Value]) -> Coefficients:
    """Return the weights of both ends, from the lengths of the models and their angle."""
    alphas = [0.0, shares[0].alpha] if len(shares) == 1 else [share.alpha for share in shares]
    at = [0, 1] if len(shares) == 1 else [1, 2]  # where the ends' τ are in G; an alpha of 0 makes it W_base

    def dot(i: int, j: int) -> float:
        a, b = alphas[i], alphas[j]
        return gram[0][0] + a * gram[at[i]][0] + b * gram[at[j]][0] + a * b * gram[at[i]][at[j]]

    a, b = sphere.arc(float(parameters["t"]), sphere.cosine(dot(0, 1), dot(0, 0), dot(1, 1)))
    ends = [a * alphas[0], b * alphas[1]]
    return Coefficients(a + b - 1, ends[1:] if len(shares) == 1 else ends)


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Interpolate the models themselves, in fp64."""
    import torch

    models = [base.double() + share.alpha * tau.double() for tau, share in zip(deltas, shares, strict=True)]
    a, b = (base.double(), models[0]) if len(models) == 1 else models
    t, cos = float(parameters["t"]), torch.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=0)
    theta = cos.nan_to_num(0).clamp(-1, 1).acos()
    if theta.sin().abs() < 1e-8:
        return ((1 - t) * a + t * b - base.double()).float()
    return ((((1 - t) * theta).sin() * a + (t * theta).sin() * b) / theta.sin() - base.double()).float()
