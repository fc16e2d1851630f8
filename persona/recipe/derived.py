"""Derived vectors as text: ``listening − rushing + 0.5 × voice``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from persona.errors import PersonaError
from persona.ids import SHORT, VectorId
from persona.recipe import expressions
from persona.recipe.model import Recipe
from persona.store.nouns import TermOf, Vector
from persona.store.objects import ObjectStore

Names = Mapping[str, Sequence[str]]
"""Names of vectors, by id."""


def names_in(recipes: Iterable[Recipe]) -> dict[str, list[str]]:
    """Collect the names of all vectors in `recipes`, in this order."""
    names: dict[str, list[str]] = {}
    for recipe in recipes:
        for entry in recipe.vectors:
            names.setdefault(entry.id, []).append(entry.name)
    return names


def said(terms: Sequence[TermOf], names: Names) -> str:
    """Format terms as a sum. A vector that no longer has a name gets the one it had when it was derived, and its id."""
    return expressions.said({label(term, names): term.coefficient for term in terms})


def label(term: TermOf, names: Names) -> str:
    """Return the name to show for a term."""
    called = names.get(term.id, ())
    if called:
        return term.name if term.name in called else called[0]
    return term.name if term.id.startswith(term.name) else f"{term.name} ({term.id[:SHORT]})"


def meaning(objects: ObjectStore, name: str, names: Names) -> str:
    """Return the sum that a vector stands for; "" if it is not derived, or cannot be read."""
    with contextlib.suppress(PersonaError):
        vector = VectorId(name)
        if objects.has_field(vector, "terms"):
            return said(Vector.get(objects, vector).terms, names)
    return ""
