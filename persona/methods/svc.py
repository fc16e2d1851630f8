"""svc: add, then weaken singular directions that several vectors share (Singular Value Calibration; Li et al. 2026,
arXiv:2602.05536).

    vᵢ = αᵢ τᵢ,  Σ vᵢ = U diag(σ) Vᵀ                   for each matrix, n vectors that change it
    aᵢ = uᵣᵀ vᵢ,  a = uᵣᵀ Σ vᵢ                         what each and what the sum does along direction r
    sᵢ = ⟨a, aᵢ⟩ / ‖aᵢ‖²                               above 1 where others do the same
    γᵣ = n / Σ max(floor, sᵢ)
    δ  = U diag(γσ) Vᵀ

With ``floor = 1`` no direction is strengthened; a lower one strengthens, up to 1/floor, those that vectors weaken in each
other. The paper calibrates 0.3 Σ vᵢ at a floor of 0.1, which is this with ``floor = 0.3333`` and scale 1; for merges at full
strength its code uses 1. Where ‖aᵢ‖ is below the rounding of fp32, ‖vᵢ‖ · max(rows, columns) · 2⁻²³, sᵢ counts as the floor.
Directions of the sum below rounding are dropped, as in iso_c. Other tensors get the sum of vᵢ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.parameters import Number, Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.spectrum import Float64, Matrix

PARAMETERS: Mapping[str, Parameter] = {
    "floor": Number(1.0, 0, 1, "Least that a vector counts in a direction; below 1, directions may gain.", beyond=True),
}
ADDS = True


def matrix(
    deltas: Sequence[Matrix], shares: Sequence[Share], parameters: Mapping[str, Value], shape: tuple[int, ...]
) -> Float64:
    """Return U diag(γσ) Vᵀ."""
    import numpy as np

    from persona.methods.parts import spectrum

    floor, largest = float(parameters["floor"]), max(shape)
    u, sigma, vt = spectrum.svd(spectrum.added(deltas, shares), largest)
    both, counts = sigma[:, None] * vt, np.zeros(len(sigma))
    for tau, share in zip(deltas, shares, strict=True):
        own = u.T @ (tau * np.float64(share.alpha))
        least = abs(share.alpha) * float(np.linalg.norm(tau)) * largest * spectrum.ROUNDING
        sizes, dots = (own * own).sum(1), (own * both).sum(1)
        heard = sizes > least * least
        counts += np.maximum(floor, np.divide(dots, sizes, out=np.zeros_like(dots), where=heard))
    merged: Float64 = u * (len(deltas) / counts) @ both
    return merged


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Go through the directions of torch's SVD one by one, in fp64."""
    import torch

    moved = [share.alpha * tau.double() for tau, share in zip(deltas, shares, strict=True)]
    total = torch.stack(moved).sum(0)
    if total.ndim != 2:
        return total.float()
    rounding, floor = max(total.shape) * 2**-23, float(parameters["floor"])
    u, sigma, vt = torch.linalg.svd(total, full_matrices=False)
    merged = torch.zeros_like(total)
    for r in range(int((sigma > sigma[:1] * rounding).sum())):
        share_of = []
        for v in moved:
            own = u[:, r] @ v
            heard = bool(own.norm() > v.norm() * rounding)
            share_of.append(float((u[:, r] @ total) @ own / own.dot(own)) if heard else floor)
        gain = len(moved) / sum(max(floor, one) for one in share_of)
        merged += gain * sigma[r] * torch.outer(u[:, r], vt[r])
    return merged.float()
