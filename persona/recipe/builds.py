"""Digests of builds: everything that determines how they behave, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from persona import methods
from persona.errors import UsageError
from persona.ids import RecipeId, object_digest
from persona.recipe import alphas
from persona.recipe.choices import FILES, SETTINGS
from persona.recipe.model import ENTRY_BEGINS, Entry, Recipe
from persona.store.objects import VERSION, ObjectStore, canonical, decoding

_DOMAIN = b"persona build\n"


def build_digest(recipe: Recipe, dtype: str | None = None, control: int | None = None) -> str:
    """Return 64 hex digits of the base, the method, the vectors with their alphas, and the chosen files and settings.

    Names, nodes and vectors with alpha 0 do not matter. A vector's Fisher diagonal matters only if the method uses it.

    Args:
        dtype: The dtype that the model runs in, if it is not the stored one.
        control: Seed of the noise that replaces the change, if it is a control.
    """
    weighs = may_weigh(recipe.method)
    vectors = [_meaning(entry, weighs) for entry in recipe.vectors if alphas.acts(entry.alpha)]
    fields: dict[str, Any] = {"base": recipe.base, "dtype": dtype, "vectors": vectors, **recipe.choices.encode()}
    if vectors:
        fields |= {"method": recipe.method, "scale": recipe.scale, "parameters": dict(recipe.parameters)}
        fields |= _rule(recipe.method)
    if control is not None:
        fields["control"] = control
    return object_digest(_DOMAIN + canonical(fields))


_RULES = {"iso_c": 2}
"""Methods whose rule has changed: what was measured under an earlier rule is of other weights. iso_c's mean is over the rank."""


def _rule(method: str) -> dict[str, int]:
    return {"rule": _RULES[method]} if method in _RULES else {}


def may_weigh(method: str) -> bool:
    """Return whether a method can use Fisher diagonals.

    An unknown method may, so that two different builds never share a digest.
    """
    try:
        return methods.weighs(methods.load(method))
    except UsageError:
        return True


def _meaning(entry: Entry, weighs: bool) -> list[Any]:
    fields = [entry.id, alphas.encode(entry.alpha), list(entry.only), list(entry.excepted), dict(entry.parameters)]
    return [*fields, entry.fisher] if weighs and entry.fisher else fields


class BuildDigests:
    """``build_digest`` of many stored recipes, as when searching a history.

    Recipes of a history differ in an entry or two, so each entry's text is decoded only once.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[RecipeId, _Parts | Recipe] = {}
        self._meanings = {weighs: _Meanings(weighs) for weighs in (False, True)}
        self._heads: dict[str, tuple[_Meanings, _Around]] = {}

    def of(self, name: RecipeId, dtype: str | None = None) -> str:
        """Return the digest of a stored recipe; ``dtype`` is as for :func:`build_digest`.

        Raises:
            Damaged: the recipe cannot be read.
        """
        if name not in self._known:
            text = self._objects.text(name, "recipe")
            with decoding("recipe", name):
                quick = self._of_text(text)
            self._known[name] = quick or Recipe.get(self._objects, name)
        known = self._known[name]
        with decoding("recipe", name):
            return build_digest(known, dtype) if isinstance(known, Recipe) else known.digest(dtype)

    def _of_text(self, text: str) -> _Parts | None:
        """Return the parts of the digest from canonical JSON; None if no vector acts or the text has another form.

        Splitting is safe: quotes within strings are escaped, so a separator never matches inside a string.
        """
        head, separator, tail = text.partition(_VECTORS + ENTRY_BEGINS)
        if not separator or not tail.endswith(_END):
            return None
        if head not in self._heads:
            self._heads[head] = self._of_head(head)
        meanings, around = self._heads[head]
        entries = tail.removesuffix(_END).split(f",{ENTRY_BEGINS}")
        vectors = ",".join(filter(None, map(meanings.__getitem__, entries)))
        return _Parts(around, vectors.encode()) if vectors else None

    def _of_head(self, head: str) -> tuple[_Meanings, _Around]:
        """Return the entries' meanings under this head's method, and what a build has before its vectors."""
        fields = json.loads(head + _VECTORS + _END)
        merge = {key: fields[key] for key in ("base", "method", "scale", "parameters", *_CHOICES) if key in fields}
        return self._meanings[may_weigh(fields["method"])], _Around(merge | _rule(fields["method"]))


class _Around(dict[str | None, bytes]):
    """Maps a dtype to the bytes that a build has before its vectors."""

    def __init__(self, merge: dict[str, Any]) -> None:
        super().__init__()
        self._merge = merge

    def __missing__(self, dtype: str | None) -> bytes:
        around = canonical({**self._merge, "dtype": dtype, "vectors": []})
        self[dtype] = _DOMAIN + around.removesuffix(b"]}")
        return self[dtype]


@dataclass(frozen=True)
class _Parts:
    """What the digests of a recipe are made of: what is before its vectors, and the vectors."""

    around: _Around
    vectors: bytes

    def digest(self, dtype: str | None) -> str:
        """The digest in this dtype."""
        return object_digest(b"%s%s]}" % (self.around[dtype], self.vectors))


_CHOICES = (FILES, SETTINGS)
_VECTORS = '"vectors":['
_END = f'],"version":{VERSION}}}'
"""How a recipe ends; one of a newer version ends otherwise, and reading it raises."""


class _Meanings(dict[str, str]):
    """Maps an entry's text, without ENTRY_BEGINS, to its canonical JSON in a build; "" if the entry does not act."""

    def __init__(self, weighs: bool) -> None:
        super().__init__()
        self._weighs = weighs

    def __missing__(self, text: str) -> str:
        entry = Entry.decode(json.loads(ENTRY_BEGINS + text))
        self[text] = canonical(_meaning(entry, self._weighs)).decode() if alphas.acts(entry.alpha) else ""
        return self[text]
