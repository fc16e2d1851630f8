"""Whether the text of a commit and its recipe say the same.

Both are stored: the text is shown and checked out, and the recipe is built. Persona makes the recipe from the text, so
in a commit that it recorded they agree. In one that somebody forged, what is read need not be what is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from persona import methods
from persona.errors import Damaged, RecipeError
from persona.ids import CommitId
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import parse
from persona.store.objects import not_ours


def disagreement(name: CommitId, text: str, recipe: Recipe) -> Damaged | None:
    """The error about a commit whose text does not say what its recipe says; None if they agree."""
    try:
        written = parse(text)
    except RecipeError as error:
        return Damaged(
            f"commit {name.short} cannot be compared with its text: {error.message}",
            "If a newer persona wrote it, upgrade. If not, do not trust the repository that it came from.",
        )
    for what, said, meant in _pairs(written, recipe):
        if said != meant:
            return not_ours("commit", name, f"{what} is {_shown(said)} in its text and {_shown(meant)} in its recipe")
    return None


def _pairs(written: Recipe, recipe: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Everything that both say: what it is, what the text says, and what the recipe says."""
    yield "the base", *_ids(written.base, recipe.base)
    yield "the base's name", written.base_name, recipe.base_name
    yield "the method", written.method, methods.ALIASES.get(recipe.method, recipe.method)
    yield "the scale", written.scale, recipe.scale
    yield from _slots("", dict(written.parameters), dict(recipe.parameters))
    yield from _slots("", written.choices.slots(), recipe.choices.slots())
    yield "the list of vectors", [e.name for e in written.vectors], [e.name for e in recipe.vectors]
    for said, meant in zip(written.vectors, recipe.vectors, strict=True):
        yield from _of_vector(said, meant)
    yield "the list of readouts", [e.name for e in written.readouts], [e.name for e in recipe.readouts]
    for pair in zip(written.readouts, recipe.readouts, strict=True):
        yield _id_of(*pair)


def _of_vector(said: Entry, meant: Entry) -> Iterator[tuple[str, Any, Any]]:
    name = said.name
    yield _id_of(said, meant)
    yield f"the alpha of {name}", said.alpha, meant.alpha
    yield f"the node of {name}", said.node, meant.node
    yield f"'only' of {name}", said.only, meant.only
    yield f"'except' of {name}", said.excepted, meant.excepted
    yield from _slots(f" of {name}", dict(said.parameters), dict(meant.parameters))
    yield f"the Fisher diagonal of {name}", *_ids(said.fisher, meant.fisher)


def _id_of(said: Entry | ReadoutEntry, meant: Entry | ReadoutEntry) -> tuple[str, str | None, str | None]:
    return f"the id of {said.name}", *_ids(said.id, meant.id)


def _ids(said: str | None, meant: str | None) -> tuple[str | None, str | None]:
    """A typed id, completed if the other begins with it, and the other."""
    return (meant if said and meant and meant.startswith(said) else said), meant


def _slots(suffix: str, said: dict[Any, Any], meant: dict[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in {**said, **meant}:
        yield f"{'.'.join(key) if isinstance(key, tuple) else key}{suffix}", said.get(key), meant.get(key)


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
