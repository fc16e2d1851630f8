"""Making a derived vector: a weighted sum of other vectors that takes no storage of its own.

Weights are added when they are read. What cannot be added (new rows, missing tensors, files, settings) comes from the
terms with a positive coefficient, by the rules that hold for a recipe of these terms.
"""

from __future__ import annotations

from collections.abc import Sequence

from persona.building.acting import Active, agreed_shape, dropped, grown
from persona.building.configs import patches
from persona.building.groups import brought
from persona.checkpoints import groups
from persona.errors import Refusal
from persona.ids import BaseId, BlobId
from persona.recipe.choices import Choices
from persona.recipe.model import Entry
from persona.store.nouns import Base, TermOf, Vector
from persona.store.tensors import TensorStore

FORM = "derived"

_APART = "A sum cannot choose between its terms: keep them as vectors of the recipe, which can."


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
    try:
        _check_shapes(base, active)
        gone, files, config = dropped(active), _files(bringing, base, store), patches(bringing, Choices()).by_file
    except Refusal as error:
        raise Refusal(error.message, _APART) from None
    return Vector(
        base=name,
        form=FORM,
        tensors={},
        gone=tuple(sorted(gone)),
        files=files,
        config=config,
        terms=tuple(terms),
        parts=tuple(vectors),
    )


def _files(bringing: Sequence[Active], base: Base, store: TensorStore) -> dict[str, BlobId]:
    """The files that the terms bring, each group from one of them.

    Raises:
        Refusal: two terms bring a group differently, or need different files of one name.
    """
    owners = {active.name: active.vector.files for active in bringing}
    files: dict[str, tuple[BlobId, str]] = {}
    for group, one in brought(bringing, base, store, Choices())[1].items():
        for name in one.files:
            blob, owner = files.setdefault(name, (owners[one.vector][name], one.vector))
            if blob != owners[one.vector][name]:
                raise Refusal(
                    f"vectors '{owner}' and '{one.vector}' both bring {name}, the second for its {groups.title(group)}"
                )
    return {name: blob for name, (blob, _) in sorted(files.items())}


def _check_shapes(base: Base, active: Sequence[Active]) -> None:
    """Raise if two terms give a tensor different new shapes."""
    for tensor in dict.fromkeys(name for a in active for name in grown(base, a.vector)):
        touches = [touch for a in active if (touch := a.touch_at(tensor)) is not None]
        bringing = [whole for touch in touches for whole in touch.dense if whole.share > 0]
        if bringing:
            agreed_shape(tensor, base.spec(tensor), bringing)
