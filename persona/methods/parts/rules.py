"""Run a method block by block, whichever way its module declares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from persona import methods
from persona.methods import Method
from persona.methods.parts import core, family, gram
from persona.methods.parts.kinds import Family
from persona.methods.parts.spectrum import added, check_finite
from persona.methods.parts.work import Piece, Work

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32

ANYWHERE, ROWS, WHOLE = "anywhere", "rows", "whole"
"""Where a tensor may be split into blocks; the result must not depend on it."""


@dataclass(frozen=True)
class Rule:
    """A pass over the whole tensor, then δ of each block.

    Attributes:
        prepare: Returns the state that `combine` needs.
        combine: Returns δ of one block.
        cut: Where the tensor may be split: ANYWHERE, between ROWS, or nowhere (WHOLE).
    """

    prepare: Callable[[Work], Any]
    combine: Callable[[Work, Piece, Any], Float32]
    cut: str = ANYWHERE


def rule(method: Method) -> Rule:
    """Return the rule of a method."""
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
            lambda work, piece, coefficients: gram.weighted(piece, coefficients),
        )
    if hasattr(module, "matrix"):
        return Rule(lambda work: None, lambda work, piece, _: _matrix(module, work, piece), WHOLE)
    return Rule(module.prepare, module.combine)


def in_core(method: Method) -> Rule:
    """Return the rule of a method over matrices for a tensor whose work has ``products``."""
    return Rule(
        lambda work: core.thin(method, work),
        lambda work, piece, delta: core.rows(delta, piece.start, len(piece.base)),
        ROWS,
    )


def family_of(method: Method) -> Family | None:
    """Return the sparsifier and combiner of a method, if it has them."""
    return getattr(method, "FAMILY", None)


def _matrix(method: Any, work: Work, piece: Piece) -> Float32:
    """Merge a matrix by the method, and any other tensor by the mean of αᵢτᵢ, or by their sum if the method adds."""
    if len(work.shape) == 2:
        check_finite(work.name, all(bool(np.isfinite(tau).all()) for tau in piece.deltas))
        deltas = [tau.reshape(work.shape) for tau in piece.deltas]
        return np.asarray(method.matrix(deltas, work.shares, work.parameters, work.shape), np.float32).reshape(-1)
    total = added(piece.deltas, work.shares)
    return (total if methods.adds_rest(method) else total / len(piece.deltas)).astype(np.float32)
