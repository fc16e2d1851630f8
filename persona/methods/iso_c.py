"""iso_c: add, then give every singular direction the same strength (Marczak et al. 2025, arXiv:2502.04959).

    Σ αᵢ τᵢ = U diag(σ) Vᵀ                            for each matrix
    δ = mean(σ) · U Vᵀ

Directions whose σ is below the rounding of fp32, σ₁ · max(rows, columns) · 2⁻²³, are noise: they stay 0 and do not
count in the mean, so it runs over the rank of the sum. A sum of LoRA adapters has a rank of at most the sum of their
ranks. Tensors that are not matrices get the mean of αᵢτᵢ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.parameters import Parameter, Value
from persona.methods.parts.share import Share

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.spectrum import Float64, Matrix

PARAMETERS: Mapping[str, Parameter] = {}
EVERY = True


def matrix(
    deltas: Sequence[Matrix], shares: Sequence[Share], parameters: Mapping[str, Value], shape: tuple[int, ...]
) -> Float64:
    """Return mean(σ) · U Vᵀ of the sum."""
    from persona.methods.parts import spectrum

    u, sigma, vt = spectrum.svd(spectrum.added(deltas, shares), max(shape))
    merged: Float64 = u * (sigma.mean() if len(sigma) else 0.0) @ vt
    return merged


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Use torch's SVD, in fp64."""
    import torch

    total = torch.stack([share.alpha * tau.double() for tau, share in zip(deltas, shares, strict=True)]).sum(0)
    if total.ndim != 2:
        return (total / len(deltas)).float()
    u, sigma, vt = torch.linalg.svd(total, full_matrices=False)
    kept = sigma > sigma[:1] * max(total.shape) * 2**-23
    merged: Tensor = sigma[kept].sum() / max(1, int(kept.sum())) * u[:, kept] @ vt[kept]
    return merged.float()
