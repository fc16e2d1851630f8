"""dare_linear: drop entries at random, rescale the rest, then add (Yu et al. 2023, arXiv:2311.03099).

    mᵢ ~ Bernoulli(density)                           per entry, from (seed, vector, tensor, position)
    τ̂ᵢ = mᵢ τᵢ / density                             its expectation is τᵢ
    δ  = Σ αᵢ τ̂ᵢ

``rescale = "l1"`` divides by the share of the L1 norm that is kept instead, as mergekit does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import KEEP, RESCALE, SEED, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {"density": KEEP, "rescale": RESCALE, "seed": SEED}
FAMILY = Family("random", "sum")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Drop at random, rescale and add."""
    from persona.methods.parts import oracle

    values = []
    for tau, share in zip(deltas, shares, strict=True):
        mask = oracle.keep_at_random(tau, share) if share.number("density") < 1 else tau == tau
        values.append(share.alpha * oracle.rescaled(tau, mask, share.number("density"), share))
    return oracle.total(values)
