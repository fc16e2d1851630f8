"""ties: trim, elect a sign per entry, average what agrees (Yadav et al. 2023, arXiv:2306.01708).

    τ̂ᵢ = τᵢ where it is among the density · n largest magnitudes, 0 elsewhere
    vᵢ = αᵢ τ̂ᵢ                                      a negative alpha makes just another vector
    s  = sign(Σ vᵢ)                                   per entry, by mass and not by number of votes
    δ  = Σ_{vᵢ s > 0} vᵢ / #{i : vᵢ s > 0}           0 where s = 0

``trim = "model"`` ranks entries across the whole vector instead of within each tensor, as the authors do.
``normalize = "weights"`` divides by Σ |αᵢ| of the vectors that agree, as mergekit does for positive weights.
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
    """Trim, scale, elect signs and average."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.trim(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.elect(values, oracle.weights(shares, parameters))
