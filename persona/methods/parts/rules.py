"""How a method is carried out block by block, whichever way its module says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.errors import Refusal
from persona.methods import Method
from persona.methods.parts import family, gram
from persona.methods.parts.kinds import Family
from persona.methods.parts.work import Piece, Work

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32

ANYWHERE, ROWS, WHOLE = "anywhere", "rows", "whole"
"""Where a tensor may be cut: the result must not depend on it."""


@dataclass(frozen=True)
class Rule:
    """What is found out about a whole tensor first, and then δ of one block; ``cut`` says what a block is."""

    prepare: Callable[[Work], Any]
    combine: Callable[[Work, Piece, Any], Float32]
    cut: str = ANYWHERE


def rule(method: Method) -> Rule:
    """The rule of a method."""
    module: Any = method
    if (kind := family_of(method)) is not None:
        return Rule(
            lambda work: family.prepare(kind, work),
            lambda work, piece, thinned: family.combine(kind, work, piece, thinned),
            ROWS if kind.sparsify == "ranked" else ANYWHERE,
        )
    if hasattr(module, "coefficients"):
        return Rule(
            lambda work: module.coefficients(gram.gram(work), work.shares, work.parameters),
            lambda work, piece, found: gram.weighted(piece, found),
        )
    if hasattr(module, "matrix"):
        return Rule(lambda work: None, lambda work, piece, _: _matrix(module, work, piece), WHOLE)
    return Rule(module.prepare, module.combine)


def family_of(method: Method) -> Family | None:
    """The sparsifier and combiner of a method that is made of these."""
    return getattr(method, "FAMILY", None)


def _matrix(method: Any, work: Work, piece: Piece) -> Float32:
    """A matrix by the method, anything else by the mean of αᵢτᵢ."""
    if len(work.shape) == 2:
        check_finite(work.name, all(bool(np.isfinite(tau).all()) for tau in piece.deltas))
        deltas = [tau.reshape(work.shape) for tau in piece.deltas]
        merged: Float32 = method.matrix(deltas, work.shares, work.parameters)
        return merged.reshape(-1)
    total = np.zeros(len(piece.base), np.float64)
    for tau, share in zip(piece.deltas, work.shares, strict=True):
        total += tau * np.float64(share.alpha)
    return (total / len(piece.deltas)).astype(np.float32)


def check_finite(name: str, finite: bool) -> None:
    """Nothing that holds NaN or infinity has singular values."""
    if not finite:
        raise Refusal(
            f"{name} holds NaN or infinity, and a matrix that does has no singular values",
            f'Keep the vectors that bring them off it with except = ["{name}"], or choose another method.',
        )
