"""breadcrumbs_ties: drop outliers and small entries, then merge as ties does (Davari and Belilovsky 2023,
arXiv:2312.06795).

    drop the ⌊γn⌋ largest magnitudes of τᵢ (fewer if less than density · n would be left)
    τ̂ᵢ = the density · n largest of the rest, 0 elsewhere
    δ  = the elected mean of αᵢ τ̂ᵢ                  as in ties

n is the number of entries in a tensor. If ⌊γn⌋ is 0, nothing is dropped as an outlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import DENSITY, GAMMA, NORMALIZE, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {"density": DENSITY, "gamma": GAMMA, "normalize": NORMALIZE}
FAMILY = Family("outliers", "elect")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Mask both ends, elect signs and average."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.mask_ends(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.elect(values, oracle.weights(shares, parameters))
