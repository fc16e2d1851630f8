"""dare_ties: drop entries at random, rescale the rest, then merge as ties does (Yu et al. 2023, arXiv:2311.03099).

    mᵢ ~ Bernoulli(density)                           per entry, from (seed, vector, tensor, position)
    τ̂ᵢ = mᵢ τᵢ / density                             its expectation is τᵢ
    δ  = the elected mean of αᵢ τ̂ᵢ                  as in ties

``rescale = "l1"`` divides by the share of the L1 norm that is kept instead, as mergekit does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import KEEP, NORMALIZE, RESCALE, SEED, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {"density": KEEP, "rescale": RESCALE, "seed": SEED, "normalize": NORMALIZE}
FAMILY = Family("random", "elect")


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Drop at random, rescale, elect signs and average."""
    from persona.methods.parts import oracle

    values = []
    for tau, share in zip(deltas, shares, strict=True):
        mask = oracle.keep_at_random(tau, share) if share.number("density") < 1 else tau == tau
        values.append(share.alpha * oracle.rescaled(tau, mask, share.number("density"), share))
    return oracle.elect(values, oracle.weights(shares, parameters))
