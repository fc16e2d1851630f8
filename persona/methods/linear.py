"""linear: W = W_base + λ · Σ αᵢ τᵢ (task arithmetic, Ilharco et al. 2022, arXiv:2212.04089).

Order of the arithmetic, all in fp32 and each step rounded: αᵢτᵢ; their sum in recipe order, beginning with the
first product; times λ unless λ is 1; plus W_base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from persona.methods import Parameter, Term

if TYPE_CHECKING:
    from persona.kernels import Float32, Kernels, Weights

PARAMETERS: Mapping[str, Parameter] = {}


def combine(base: Any, deltas: list[Any], alphas: list[float], scale: float, parameters: Mapping[str, Any]) -> Any:
    """W for one block. ``deltas`` (τᵢ, fp32, the shape of ``base``) are used up; ``base`` is left alone.

    Written with in-place operators only, which numpy arrays and torch tensors share.
    """
    total = None
    for delta, alpha in zip(deltas, alphas, strict=True):
        delta *= alpha
        if total is None:
            total = delta
        else:
            total += delta
    if total is None:
        return base
    if scale != 1.0:
        total *= scale
    total += base
    return total


def fused(
    kernels: Kernels,
    base: Weights,
    terms: Iterable[Term],
    alphas: list[float],
    scale: float,
    parameters: Mapping[str, Any],
    total: Float32,
    out: Weights,
) -> None:
    """:func:`combine` in the same order, one pass per term and one to round."""
    for number, (term, alpha) in enumerate(zip(terms, alphas, strict=True)):
        if term.is_delta:
            kernels.add_delta(total, term.values, alpha, number == 0)  # type: ignore[arg-type]
        else:
            kernels.add_weights(total, term.values, base, alpha, number == 0)
    kernels.finish(total, base, scale, out)
