"""linear: add the vectors (task arithmetic; Ilharco et al. 2022, arXiv:2212.04089).

    δ = Σ αᵢ τᵢ

Every step is rounded to fp32: the products αᵢτᵢ, then their sum in recipe order, then W = W_base + λδ. Also called
``task_arithmetic``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {}
FAMILY = Family("nothing", "sum")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Compute Σ αᵢ τᵢ."""
    from persona.methods.parts import oracle

    return oracle.total([share.alpha * tau for tau, share in zip(deltas, shares, strict=True)])
