"""breadcrumbs: mask the outliers and the small, then add up (Davari and Belilovsky 2023, arXiv:2312.06795).

    the ⌊γn⌋ largest magnitudes of τᵢ are dropped (fewer, where less than density · n would be left)
    τ̂ᵢ = the density · n largest of the others, else 0
    δ  = Σ αᵢ τ̂ᵢ

n is the number of entries of a tensor; ⌊γn⌋ may be 0, and then there are no outliers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import DENSITY, GAMMA, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {"density": DENSITY, "gamma": GAMMA}
FAMILY = Family("outliers", "sum")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Mask both ends, add up."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.mask_ends(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.total(values)
