"""breadcrumbs_ties: mask the outliers and the small, then elect and average as ties does (Davari and Belilovsky 2023, arXiv:2312.06795).

    the ⌊γn⌋ largest magnitudes of τᵢ are dropped (fewer, where less than density · n would be left)
    τ̂ᵢ = the density · n largest of the others, else 0
    δ  = the elected mean of αᵢ τ̂ᵢ                  as in ties

n is the number of entries of a tensor; ⌊γn⌋ may be 0, and then there are no outliers.
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
    """Mask both ends, elect, average."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.mask_ends(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.elect(values, oracle.weights(shares, parameters))
