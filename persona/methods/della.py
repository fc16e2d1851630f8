"""della: drop entries at random, small ones more often, then merge as ties does (Deep et al. 2024, arXiv:2406.11617).

    r  = rank of |τ| in its row, 0 for the smallest of n
    p  = density - ε + 2ε · r/(n - 1)                 keep probability: the larger, the likelier
    τ̂ᵢ = mᵢ τᵢ / p,  mᵢ ~ Bernoulli(p)              its expectation is τᵢ
    δ  = the elected mean of αᵢ τ̂ᵢ                  as in ties

A row runs along the last axis; a one-dimensional tensor is a single row. ``rescale = "l1"`` as in dare_linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from persona.methods.parts.kinds import Family
from persona.methods.parts.parameters import EPSILON, KEEP, NORMALIZE, RESCALE, SEED, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from persona.methods.parts.parameters import Value
    from persona.methods.parts.share import Share

PARAMETERS: Mapping[str, Parameter] = {
    "density": KEEP,
    "epsilon": EPSILON,
    "rescale": RESCALE,
    "seed": SEED,
    "normalize": NORMALIZE,
}
FAMILY = Family("ranked", "elect")


def check(parameters: Mapping[str, Value]) -> str | None:
    """Return what is wrong if keep probabilities are not between 0 and 1."""
    density, epsilon = float(parameters["density"]), float(parameters["epsilon"])
    if density < 1 and not 0 < density - epsilon <= density + epsilon <= 1:
        return f"density {density:g} - epsilon {epsilon:g} must be above 0 and density + epsilon at most 1"
    return None


def reference(base: Tensor, deltas: list[Tensor], shares: Sequence[Share], parameters: Mapping[str, Value]) -> Tensor:
    """Rank, drop, rescale, elect signs and average."""
    from persona.methods.parts import oracle

    values = [share.alpha * oracle.drop_by_rank(tau, share) for tau, share in zip(deltas, shares, strict=True)]
    return oracle.elect(values, oracle.weights(shares, parameters))
