"""wudi: on the inputs of each vector's task, change what that vector changed (WUDI-Merging; Cheng et al. 2025,
arXiv:2503.08099).

    Gᵢ = τᵢᵀ τᵢ / ‖τᵢ‖²                                rows of τᵢ lie in the span of the inputs that it was trained on
    δ  = (Σ αᵢ τᵢ Gᵢ) (Σ Gᵢ)⁺                          for each matrix [outputs, inputs]

This is the δ of least norm that minimizes the paper's loss

    Σ ‖(δ − vᵢ) vᵢᵀ‖² / ‖vᵢ‖²,   vᵢ = αᵢ τᵢ

which the paper approaches from the sum of the vᵢ with 300 steps of Adam. Only directions of Σ Gᵢ whose square root is
above the rounding of fp32, max(rows, columns) · 2⁻²³ of the largest, are inverted.

Alphas have no part in Σ Gᵢ: δ is linear in them, and a single vector gives ατ. A vector with a small alpha keeps the
others away from its inputs; without the vector, or at alpha 0, they change them. Tensors that are not matrices get the
mean of αᵢτᵢ, as in the paper's code. Layers that store [inputs, outputs], such as GPT-2's, get the mirror image: outputs
take the place of inputs.
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
    """Return (Σ αᵢ τᵢ Gᵢ) (Σ Gᵢ)⁺."""
    import numpy as np

    from persona.methods.parts import spectrum

    norms = [float(np.linalg.norm(tau.astype(np.float64))) for tau in deltas]
    rows, columns = deltas[0].shape
    taus = [(tau, share.alpha, norm) for tau, share, norm in zip(deltas, shares, norms, strict=True) if norm > 0]
    if not taus:
        return np.zeros((rows, columns))
    stacked = rows * len(taus)
    if columns < stacked and columns > spectrum.FEW:
        return _by_inputs(taus, max(shape))
    return _by_outputs(taus, max(shape))


def _by_inputs(taus: Sequence[tuple[Matrix, float, float]], largest: int) -> Float64:
    """Compute δ from Σ Gᵢ itself, [columns, columns]."""
    import numpy as np

    from persona.methods.parts import spectrum

    columns = taus[0][0].shape[1]
    pulled, inputs = np.zeros(taus[0][0].shape), np.zeros((columns, columns))
    for tau, alpha, norm in taus:
        unit = tau / np.float64(norm)
        own = unit.T @ unit
        inputs += own
        pulled += (alpha * norm) * (unit @ own)
    values, q = np.linalg.eigh(inputs)
    sigma, q = np.sqrt(np.maximum(values[::-1], 0)), q[:, ::-1]
    kept = spectrum.above_rounding(sigma, largest)
    merged: Float64 = pulled @ ((q[:, :kept] / values[::-1][:kept]) @ q[:, :kept].T)
    return merged


def _by_outputs(taus: Sequence[tuple[Matrix, float, float]], largest: int) -> Float64:
    """Compute δ from X = [τᵢ/‖τᵢ‖] = P S Qᵀ, since Σ Gᵢ = XᵀX: δ = Σ αᵢ‖τᵢ‖ Pᵢ S² PᵢᵀPᵢ S⁻¹ Qᵀ."""
    import numpy as np

    from persona.methods.parts import spectrum

    p, sigma, qt = spectrum.svd(np.vstack([tau / np.float64(norm) for tau, _, norm in taus]), largest)
    rows = len(taus[0][0])
    merged = np.zeros((rows, len(sigma)))
    for number, (_, alpha, norm) in enumerate(taus):
        own = p[number * rows : (number + 1) * rows]
        merged += (alpha * norm) * ((own * sigma**2) @ (own.T @ own))
    return (merged / sigma) @ qt


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Use torch's pseudoinverse of the stacked τᵢ/‖τᵢ‖, in fp64."""
    import torch

    taus = [tau.double() for tau in deltas]
    if taus[0].ndim != 2:
        return (
            torch.stack([share.alpha * tau for tau, share in zip(taus, shares, strict=True)]).sum(0) / len(taus)
        ).float()
    pairs = [(tau, share.alpha) for tau, share in zip(taus, shares, strict=True) if tau.norm() > 0]
    if not pairs:
        return torch.zeros_like(base)
    units = torch.cat([tau / tau.norm() for tau, _ in pairs])
    wanted = torch.cat([alpha * tau @ tau.T / tau.norm() for tau, alpha in pairs], 1)
    # Σ αᵢ τᵢ Gᵢ (XᵀX)⁺ = [αᵢ τᵢ τᵢᵀ/‖τᵢ‖] X (XᵀX)⁺, and X (XᵀX)⁺ = (X⁺)ᵀ
    inverse = torch.linalg.pinv(units, rtol=max(taus[0].shape) * 2**-23)
    merged: Tensor = wanted @ inverse.T
    return merged.float()
