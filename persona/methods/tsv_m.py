"""tsv_m: combine the strongest singular directions of all vectors, made orthogonal (TSV-Merge; Gargiulo et al. 2024,
arXiv:2412.00081).

    αᵢ τᵢ ≈ Uᵢ diag(σᵢ) Vᵢᵀ                          its ⌊min(rows, columns)/n⌋ strongest directions, n vectors
    U = [U₁ … Uₙ], V = [V₁ … Vₙ], σ = (σ₁ … σₙ)
    U⊥ = P Qᵀ of U = P diag(s) Qᵀ, V⊥ likewise        the nearest matrix with orthonormal columns (Procrustes)
    δ = U⊥ diag(σ) V⊥ᵀ

Directions below the rounding of fp32 are dropped, as in iso_c. Tensors that are not matrices get the mean of αᵢτᵢ.
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
    """Return U⊥ diag(σ) V⊥ᵀ."""
    import numpy as np

    from persona.methods.parts import spectrum

    each, largest = max(1, min(shape) // len(deltas)), max(shape)
    parts = [
        spectrum.svd(spectrum.added([tau], [share]), largest, each) for tau, share in zip(deltas, shares, strict=True)
    ]
    left = spectrum.orthonormal(np.hstack([u for u, _, _ in parts]), shape[0])
    right = spectrum.orthonormal(np.hstack([vt.T for _, _, vt in parts]), shape[1])
    merged: Float64 = left * np.concatenate([s for _, s, _ in parts]) @ right.T
    return merged


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Use torch's SVD, in fp64."""
    import torch

    moved = [share.alpha * tau.double() for tau, share in zip(deltas, shares, strict=True)]
    if moved[0].ndim != 2:
        return (torch.stack(moved).sum(0) / len(moved)).float()
    each, us, sigmas, vs = max(1, min(moved[0].shape) // len(moved)), [], [], []
    for matrix in moved:
        u, sigma, vt = torch.linalg.svd(matrix, full_matrices=False)
        count = min(each, int((sigma > sigma[:1] * max(matrix.shape) * 2**-23).sum()))
        us.append(u[:, :count])
        sigmas.append(sigma[:count])
        vs.append(vt[:count].T)
    orthogonal = []
    for columns in (torch.cat(us, 1), torch.cat(vs, 1)):
        p, s, qt = torch.linalg.svd(columns, full_matrices=False)
        kept = s > s[:1] * max(columns.shape) * 2**-23
        orthogonal.append(p[:, kept] @ qt[kept])
    merged: Tensor = orthogonal[0] * torch.cat(sigmas) @ orthogonal[1].T
    return merged.float()
