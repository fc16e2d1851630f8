"""What names a build: all that determines its weights, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from persona import methods
from persona.errors import UsageError
from persona.ids import RecipeId, object_digest
from persona.recipe import alphas
from persona.recipe.model import ENTRY_BEGINS, Entry, Recipe
from persona.store.objects import VERSION, ObjectStore, canonical

_DOMAIN = b"persona build\n"


def build_digest(recipe: Recipe, dtype: str | None = None, control: int | None = None) -> str:
    """64 hex digits for base, method, and vectors with their strengths; not for their names, nodes, or an alpha of 0.

    A vector's Fisher diagonal counts where the method weighs by it, and nowhere else. ``dtype`` is the one that it runs in if
    that is not its own; ``control`` the seed of noise that stands in for its change.
    """
    weighs = may_weigh(recipe.method)
    vectors = [_meaning(entry, weighs) for entry in recipe.vectors if alphas.acts(entry.alpha)]
    fields: dict[str, Any] = {"base": recipe.base, "dtype": dtype, "vectors": vectors}
    if vectors:
        fields |= {"method": recipe.method, "scale": recipe.scale, "parameters": dict(recipe.parameters)}
    if control is not None:
        fields["control"] = control
    return object_digest(_DOMAIN + canonical(fields))


def may_weigh(method: str) -> bool:
    """Whether vectors' diagonals can matter to a method. Those of one that is not known here may, so that one build is never
    taken for another."""
    try:
        return methods.weighs(methods.load(method))
    except UsageError:
        return True


def _meaning(entry: Entry, weighs: bool) -> list[Any]:
    said = [entry.id, alphas.encode(entry.alpha), list(entry.only), list(entry.excepted), dict(entry.parameters)]
    return [*said, entry.fisher] if weighs and entry.fisher else said


class BuildDigests:
    """``build_digest`` of many kept recipes, each in its own dtype, for those who look through a history.

    Recipes of a history differ in an entry or two: what an entry's text means is worked out once, and not again in every
    recipe that has it.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[RecipeId, str] = {}
        self._meanings = {weighs: _Meanings(weighs) for weighs in (False, True)}
        self._heads: dict[str, tuple[_Meanings, bytes]] = {}

    def of(self, name: RecipeId) -> str:
        """The digest; Damaged if the recipe cannot be read."""
        if name not in self._known:
            quick = self._of_text(self._objects.text(name, "recipe"))
            self._known[name] = quick or build_digest(Recipe.get(self._objects, name))
        return self._known[name]

    def _of_text(self, text: str) -> str | None:
        """From canonical JSON; None where nothing acts or the text is not as expected: then the recipe must be read.

        Quotes within strings are escaped, so no string is taken for a place to cut; and a text whose pieces are each JSON
        can be read in no other way.
        """
        head, found, tail = text.partition(_VECTORS + ENTRY_BEGINS)
        if not found or not tail.endswith(_END):
            return None
        if head not in self._heads:
            self._heads[head] = self._of_head(head)
        meanings, around = self._heads[head]
        entries = tail.removesuffix(_END).split(f",{ENTRY_BEGINS}")
        vectors = ",".join(filter(None, map(meanings.__getitem__, entries)))
        return object_digest(b"%s%s]}" % (around, vectors.encode())) if vectors else None

    def _of_head(self, head: str) -> tuple[_Meanings, bytes]:
        """What stands before the vectors in a recipe's text: what vectors mean by its method, and what stands before them in a build."""
        fields = json.loads(head + _VECTORS + _END)
        merge = {key: fields[key] for key in ("base", "method", "scale", "parameters")}
        around = canonical({**merge, "dtype": None, "vectors": []})
        return self._meanings[may_weigh(fields["method"])], _DOMAIN + around.removesuffix(b"]}")


_VECTORS = '"vectors":['
_END = f'],"version":{VERSION}}}'
"""How a recipe ends. One of a newer version does not, and reading it says so."""


class _Meanings(dict[str, str]):
    """From an entry's text, without its beginning, to what a build has of it: canonical JSON, or nothing where it does not act."""

    def __init__(self, weighs: bool) -> None:
        super().__init__()
        self._weighs = weighs

    def __missing__(self, text: str) -> str:
        entry = Entry.decode(json.loads(ENTRY_BEGINS + text))
        self[text] = canonical(_meaning(entry, self._weighs)).decode() if alphas.acts(entry.alpha) else ""
        return self[text]
