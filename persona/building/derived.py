"""Making a derived vector: what its terms bring together, refused where two of them do not go together.

Weights add up when they are read. What does not add up (rows that the base has not, missing tensors, files, settings) comes
from the terms with a positive coefficient, by the rules that a recipe of these terms would have.
"""

from __future__ import annotations

from collections.abc import Sequence

from persona.building.acting import Active, agreed_shape, dropped, grown, touch_at
from persona.building.sidefiles import brought, patches
from persona.ids import BaseId
from persona.recipe.model import Entry
from persona.store.nouns import Base, TermOf, Vector
from persona.store.tensors import TensorStore

FORM = "derived"


def sum_of(
    name: BaseId,
    base: Base,
    terms: Sequence[TermOf],
    vectors: Sequence[Vector],
    shown: Sequence[str],
    store: TensorStore,
) -> Vector:
    """The vector Σ cᵢ·τᵢ of ``terms``, which are ``vectors`` of one base; errors call them what ``shown`` says."""
    labelled = zip(terms, vectors, shown, strict=True)
    active = [Active(Entry(label, term.id, term.coefficient), vector) for term, vector, label in labelled]
    bringing = [one for one, term in zip(active, terms, strict=True) if term.coefficient > 0]
    _check_shapes(base, active)
    return Vector(
        base=name,
        form=FORM,
        tensors={},
        gone=tuple(sorted(dropped(active))),
        files=brought(bringing, base, store),
        config=patches(bringing),
        terms=tuple(terms),
        parts=tuple(vectors),
    )


def _check_shapes(base: Base, active: Sequence[Active]) -> None:
    """Raise if two terms grow a tensor differently, or bring different ones."""
    for tensor in dict.fromkeys(name for one in active for name in grown(base, one.vector)):
        touches = [touch for one in active if (touch := touch_at(one, tensor, base)) is not None]
        dense = [one for touch in touches for one in touch.dense if one.share > 0]
        if dense:
            agreed_shape(tensor, base.spec(tensor), dense)
