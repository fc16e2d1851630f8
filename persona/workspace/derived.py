"""Storing an expression over vectors, such as ``b - a + c``, as a derived vector.

See docs/decisions/0012-derived-vectors.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from persona.building.derived import sum_of
from persona.errors import ExpressionError, UsageError, WrongBase
from persona.ids import VectorId
from persona.recipe import derived, expressions
from persona.recipe.model import Recipe
from persona.recipe.naming import Named, vector_at
from persona.repository import Repository
from persona.store.nouns import TermOf, Vector


def mean_of(repo: Repository, recipe: Recipe, one: str, other: str) -> VectorId:
    """Store ½·one + ½·other of two vectors, given by their ids."""
    return stored_sum(repo, recipe, f'0.5 * "{one}" + 0.5 * "{other}"')


def stored_sum(repo: Repository, recipe: Recipe, written: str) -> VectorId:
    """Store the value of an expression. If it is a single vector with coefficient 1, return that vector.

    Raises:
        ExpressionError: a name is unknown, or the syntax is wrong.
        WrongBase: a vector belongs to another base.
        Refusal: two terms cannot be in one build.
    """
    called: dict[VectorId, str] = {}
    sums = expressions.combine(written, lambda name: _flat(repo, recipe, written, name, called))
    terms = [TermOf(coefficient, vector, called[vector]) for vector, coefficient in sums.items()]
    if [term.coefficient for term in terms] == [1.0]:
        return terms[0].id
    vectors = [repo.vector(term.id) for term in terms]
    names = derived.names_in([recipe])
    shown = [derived.label(term, names) for term in terms]
    return sum_of(recipe.base_id, repo.base(recipe.base_id), terms, vectors, shown, repo.tensors).put(repo.objects)


def _flat(
    repo: Repository, recipe: Recipe, written: str, name: expressions.Name, called: dict[VectorId, str]
) -> Mapping[VectorId, Fraction]:
    """The value of a name as a sum of stored vectors: itself, or the terms of a derived vector."""
    named = _lookup(repo, recipe, written, name)
    vector = Vector.get(repo.objects, named.id)
    if vector.base != recipe.base:
        raise WrongBase(
            f"vector '{name.text}' ({named.id.short}) belongs to base {vector.base.short}, "
            f"but the recipe's base is {recipe.base_name or 'unnamed'} ({recipe.base[:12]})",
            "Only vectors of the same base can be added.",
        )
    terms = vector.terms or (TermOf(1.0, named.id, named.name),)
    for term in terms:
        called.setdefault(term.id, term.name)
    return {term.id: _exact(term.coefficient) for term in terms}


def _exact(coefficient: float) -> Fraction:
    """The fraction that was meant by a coefficient: 1/10, not the double nearest to it."""
    near = Fraction(coefficient).limit_denominator(1_000_000)
    return near if float(near) == coefficient else Fraction(coefficient)


def _lookup(repo: Repository, recipe: Recipe, written: str, name: expressions.Name) -> Named:
    try:
        return vector_at(name.text, recipe, repo.refs(), repo.objects, repo.log)
    except UsageError as error:
        hint = expressions.meant(name.text, [entry.name for entry in recipe.vectors]) or error.hint
        raise ExpressionError(error.message, hint, written, name.at) from None
