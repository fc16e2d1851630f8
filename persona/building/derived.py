"""Making a derived vector: a weighted sum of other vectors that takes no storage of its own.

Weights are added when they are read. What cannot be added (new rows, missing tensors, files, settings) comes from the
terms with a positive coefficient, by the rules that hold for a recipe of these terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from persona.building.acting import Active, agreed_shape, dropped, grown
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
    """Make the vector Σ cᵢ·τᵢ.

    Args:
        name: Id of the base of all vectors.
        base: That base.
        terms: Coefficients and ids.
        vectors: The vectors of ``terms``, in their order.
        shown: What error messages call them, in the same order.
        store: Where their files are read from.

    Raises:
        Refusal: two terms cannot be in one build.
    """
    labelled = zip(terms, vectors, shown, strict=True)
    active = [Active(Entry(label, term.id, term.coefficient), vector, base) for term, vector, label in labelled]
    bringing = [a for a, term in zip(active, terms, strict=True) if term.coefficient > 0]
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
    """Raise if two terms give a tensor different new shapes."""
    for tensor in dict.fromkeys(name for a in active for name in grown(base, a.vector)):
        touches = [touch for a in active if (touch := a.touch_at(tensor)) is not None]
        bringing = [whole for touch in touches for whole in touch.dense if whole.share > 0]
        if bringing:
            agreed_shape(tensor, base.spec(tensor), bringing)
