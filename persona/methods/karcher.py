"""karcher: the mean on the sphere, with the least squared angle to all models (Grove and Karcher 1973).

    Mᵢ = W_base + τᵢ,  uᵢ = Mᵢ/‖Mᵢ‖,  wᵢ = αᵢ/Σα
    u ← Σ wᵢ uᵢ, normalized; then, until it converges,
        T = Σ wᵢ · θᵢ/sin θᵢ · (uᵢ - cos θᵢ u),  cos θᵢ = ⟨u, uᵢ⟩          the mean in the tangent plane
        u ← cos‖T‖ u + sin‖T‖ T/‖T‖
    W = Σ wᵢ‖Mᵢ‖ · u,   δ = W - W_base

A model exactly opposite to u is ignored. All points lie in the span of the models, so lengths and angles are enough. A
single vector gives its own model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Coefficients, Gram
from persona.methods.parts.parameters import Number, Parameter, Value, Whole
from persona.methods.parts.share import Share
from persona.methods.parts.sphere import COLINEAR

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS: Mapping[str, Parameter] = {
    "max_iter": Whole(10, 1, 10_000, "Maximum number of steps."),
    "tol": Number(1e-5, 0, 1, "Stop when a step is shorter than this."),
}
EVERY = True


def check_alphas(alphas: Sequence[float]) -> str | None:
    """Return what is wrong if an alpha is negative."""
    return "karcher takes positive alphas: they are the weights of a mean" if min(alphas) < 0 else None


def coefficients(gram: Gram, shares: Sequence[Share], parameters: Mapping[str, Value]) -> Coefficients:
    """Find the mean as coordinates over the units uᵢ, from their Gram matrix."""
    count = len(shares)
    lengths = [math.sqrt(max(0.0, _dot(gram, i, i))) for i in range(count)]
    there = [i for i in range(count) if lengths[i] > 0]
    if not there:
        return Coefficients(0.0, [0.0] * count)
    units = [[_dot(gram, i, j) / (lengths[i] * lengths[j]) for j in there] for i in there]
    whole = sum(shares[i].alpha for i in there)
    weights = [shares[i].alpha / whole for i in there]
    x = _mean(units, weights, int(parameters["max_iter"]), float(parameters["tol"]))
    radius = sum(w * lengths[i] for w, i in zip(weights, there, strict=True))
    deltas = [0.0] * count
    for i, coordinate in zip(there, x, strict=True):
        deltas[i] = radius * coordinate / lengths[i]
    return Coefficients(sum(deltas) - 1, deltas)


def _dot(gram: Gram, i: int, j: int) -> float:
    """Return ⟨Mᵢ, Mⱼ⟩, where M = W_base + τ."""
    return gram[0][0] + gram[i + 1][0] + gram[j + 1][0] + gram[i + 1][j + 1]


def _mean(units: Gram, weights: list[float], steps: int, tol: float) -> list[float]:
    count = len(weights)

    def length(x: list[float]) -> float:
        square = sum(x[i] * x[j] * units[i][j] for i in range(count) for j in range(count))
        return math.sqrt(max(0.0, square))

    x = weights
    size = length(x)
    if size < tol:
        return [1.0] + [0.0] * (count - 1)
    x = [value / size for value in x]
    for _ in range(steps):
        tangent = [0.0] * count
        for i in range(count):
            cos = min(1.0, max(-1.0, sum(x[j] * units[j][i] for j in range(count))))
            theta = math.acos(cos)
            if theta < tol or math.sin(theta) < COLINEAR:
                continue
            factor = weights[i] * theta / math.sin(theta)
            tangent = [t - factor * cos * value for t, value in zip(tangent, x, strict=True)]
            tangent[i] += factor
        step = length(tangent)
        if step < tol:
            break
        x = [math.cos(step) * value + math.sin(step) * t / step for value, t in zip(x, tangent, strict=True)]
        size = length(x)
        x = [value / size for value in x]
    return x


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Iterate on the models themselves, in fp64."""
    import torch

    models = [base.double() + tau.double() for tau in deltas]
    pairs = [(model, share.alpha) for model, share in zip(models, shares, strict=True) if model.norm() > 0]
    if not pairs:
        return torch.zeros_like(base)
    weights = [alpha / sum(alpha for _, alpha in pairs) for _, alpha in pairs]
    units, tol = [model / model.norm() for model, _ in pairs], float(parameters["tol"])
    u = torch.stack([w * unit for w, unit in zip(weights, units, strict=True)]).sum(0)
    u = u / u.norm() if u.norm() >= tol else units[0]
    for _ in range(int(parameters["max_iter"])):
        tangent = torch.zeros_like(u)
        for w, unit in zip(weights, units, strict=True):
            cos = (u * unit).sum().clamp(-1, 1)
            theta = cos.acos()
            if theta >= tol and theta.sin() >= 1e-8:
                tangent += w * theta / theta.sin() * (unit - cos * u)
        step = tangent.norm()
        if step < tol:
            break
        u = step.cos() * u + step.sin() * tangent / step
        u = u / u.norm()
    radius: float = sum(w * float(model.norm()) for w, (model, _) in zip(weights, pairs, strict=True))
    merged: Tensor = radius * u - base.double()
    return merged.float()
