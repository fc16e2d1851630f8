"""ties: trim, elect a sign, average what agrees (Yadav et al. 2023, arXiv:2306.01708).

    τ̂ᵢ = τᵢ where it is among the density · n largest magnitudes, else 0        (parts/order.py)
    vᵢ = αᵢ τ̂ᵢ                                      a negative alpha is just another vector
    s  = sign(Σ vᵢ)                                   per entry: mass, not a count of votes
    δ  = Σ_{vᵢ s > 0} vᵢ / #{i : vᵢ s > 0}           0 where s = 0

``trim = "model"`` looks for the largest in the whole vector instead of in each tensor, as the authors did.
``normalize = "weights"`` divides by Σ |αᵢ| of those that agree: what mergekit does where weights are positive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import DENSITY, NORMALIZE, TRIM, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {"density": DENSITY, "trim": TRIM, "normalize": NORMALIZE}
FAMILY = Family("trim", "elect")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Trim, scale, elect, average."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.trim(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.elect(values, oracle.weights(shares, parameters))
