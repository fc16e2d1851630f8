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

    values = []
    for tau, share in zip(deltas, shares, strict=True):
        kept = oracle.wanted(share.number("density"), tau.numel())
        top = min(int(share.number("gamma") * tau.numel()), tau.numel() - kept)
        mask = oracle.largest(tau, top + kept, share.key)
        if top:
            mask &= ~oracle.largest(tau, top, share.key)
        values.append(share.alpha * tau.where(mask, 0))
    return oracle.total(values)
