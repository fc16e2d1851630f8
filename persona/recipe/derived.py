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

Names = Mapping[str, str]
"""What vectors are called, by their ids."""


def names_in(recipes: Iterable[Recipe]) -> dict[str, str]:
    """Of all vectors of ``recipes``; the last one counts."""
    return {entry.id: entry.name for recipe in recipes for entry in recipe.vectors}


def said(terms: Sequence[TermOf], names: Names) -> str:
    """Terms as a sum. One that is not among ``names`` is called what it was when it was derived, with its id."""
    return expressions.said({label(term, names): term.coefficient for term in terms})


def label(term: TermOf, names: Names) -> str:
    """What to call a term."""
    if term.id in names:
        return names[term.id]
    return term.name if term.id.startswith(term.name) else f"{term.name} ({term.id[:SHORT]})"


def meaning(objects: ObjectStore, name: str, names: Names) -> str:
    """What sum the vector ``name`` is; "" if it is none, or cannot be read."""
    with contextlib.suppress(PersonaError):
        vector = VectorId(name)
        if objects.has_field(vector, "terms"):
            return said(Vector.get(objects, vector).terms, names)
    return ""
