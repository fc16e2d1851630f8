"""A derived vector in words: ``listening − rushing + 0.5 × voice``."""

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
"""What vectors are called, by their ids."""


def names_in(recipes: Iterable[Recipe]) -> dict[str, list[str]]:
    """Of all vectors of ``recipes``, in this order."""
    found: dict[str, list[str]] = {}
    for recipe in recipes:
        for entry in recipe.vectors:
            found.setdefault(entry.id, []).append(entry.name)
    return found


def said(terms: Sequence[TermOf], names: Names) -> str:
    """Terms as a sum. One that has no name any more is called what it was when it was derived, with its id."""
    return expressions.said({label(term, names): term.coefficient for term in terms})


def label(term: TermOf, names: Names) -> str:
    """What to call a term."""
    called = names.get(term.id, ())
    if called:
        return term.name if term.name in called else called[0]
    return term.name if term.id.startswith(term.name) else f"{term.name} ({term.id[:SHORT]})"


def meaning(objects: ObjectStore, name: str, names: Names) -> str:
    """What sum the vector ``name`` is; "" if it is none, or cannot be read."""
    with contextlib.suppress(PersonaError):
        vector = VectorId(name)
        if objects.has_field(vector, "terms"):
            return said(Vector.get(objects, vector).terms, names)
    return ""
