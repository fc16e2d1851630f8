"""A recipe: a base, vectors times alphas, the method that adds them up, and readouts that what comes out is measured by.

    recipe   {base, base_name, method, scale, parameters, vectors: [{name, id, alpha, node, only, except}]}

and a vector has ``parameters`` where it has some of its own, ``fisher`` where a Fisher diagonal was estimated for it, and
``specification`` where it is known which text of its node it implements: the id of that snapshot. A person writes the
node's name only; the snapshot is pinned at a commit.
A recipe with readouts has ``readouts: [{name, id}]`` besides, sorted by name, for their order means nothing.

As parsed, ids may be prefixes, as a person types them; resolved, they are whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from persona.ids import BaseId, FisherId, NodeId, ReadoutId, RecipeId, VectorId
from persona.methods.parts.parameters import Value
from persona.recipe import alphas
from persona.store.objects import ObjectStore


@dataclass(frozen=True)
class Entry:
    """One vector of a recipe, under the name and with the strength that the recipe gives it."""

    name: str
    id: str
    alpha: alphas.Alpha = 1.0
    node: str | None = None
    only: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    fisher: str | None = None
    specification: NodeId | None = field(default=None, compare=False)  # known of the vector, and no part of a build

    def touches(self, tensor: str) -> bool:
        """Whether ``only`` and ``except`` let this vector change ``tensor`` (shell patterns on its name)."""
        if self.only and not any(fnmatchcase(tensor, pattern) for pattern in self.only):
            return False
        return not any(fnmatchcase(tensor, pattern) for pattern in self.excepted)

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Entry:
        """From an object."""
        return cls(
            name=fields["name"],
            id=fields["id"],
            alpha=alphas.decode(fields["alpha"]),
            node=fields["node"],
            only=tuple(fields["only"]),
            excepted=tuple(fields["except"]),
            parameters=fields.get("parameters", {}),
            fisher=FisherId(fields["fisher"]) if "fisher" in fields else None,
            specification=NodeId(fields["specification"]) if "specification" in fields else None,
        )

    def with_vector(self, name: str) -> Entry:
        """The same with the vector ``name``; what was estimated for another one stays behind."""
        return replace(self, id=name, fisher=self.fisher if name == self.id else None)


@dataclass(frozen=True)
class ReadoutEntry:
    """One readout of a recipe; it changes no weight."""

    name: str
    id: str


@dataclass(frozen=True)
class Recipe:
    """What a build is made of, and the readouts that come with it."""

    base: str
    base_name: str
    vectors: tuple[Entry, ...] = ()
    method: str = "linear"
    scale: float = 1.0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    readouts: tuple[ReadoutEntry, ...] = ()

    def entry(self, name: str) -> Entry | None:
        """The vector called ``name``."""
        return next((entry for entry in self.vectors if entry.name == name), None)

    @property
    def names(self) -> dict[str, str]:
        """Vectors and readouts by name: their ids."""
        readouts = {entry.name: entry.id for entry in self.readouts}
        return {entry.name: entry.id for entry in self.vectors} | readouts

    def readout(self, name: str) -> ReadoutEntry | None:
        """The readout called ``name``."""
        return next((entry for entry in self.readouts if entry.name == name), None)

    def with_readouts(self, entries: Iterable[ReadoutEntry]) -> Recipe:
        """The same with these readouts, in the order that all recipes have them in."""
        return replace(self, readouts=tuple(sorted(entries, key=lambda entry: entry.name)))

    @property
    def base_id(self) -> BaseId:
        """The base's whole id; ValueError before the recipe is resolved."""
        return BaseId(self.base)

    def encode(self) -> dict[str, Any]:
        """As it stands in an object and in a build's receipt."""
        fields = {
            "base": self.base,
            "base_name": self.base_name,
            "method": self.method,
            "scale": self.scale,
            "parameters": dict(self.parameters),
            "vectors": [_encode_entry(entry) for entry in self.vectors],
        }
        readouts = [{"name": entry.name, "id": entry.id} for entry in self.readouts]
        return fields | ({"readouts": readouts} if readouts else {})  # absent from others, whose ids stay

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Recipe:
        """From an object or a receipt."""
        return cls(
            base=fields["base"],
            base_name=fields["base_name"],
            vectors=tuple(Entry.decode(value) for value in fields["vectors"]),
            method=fields["method"],
            scale=fields["scale"],
            parameters=fields["parameters"],
            readouts=tuple(ReadoutEntry(value["name"], value["id"]) for value in fields.get("readouts", ())),
        )

    def put(self, objects: ObjectStore) -> RecipeId:
        """Keep it, resolved; its id."""
        _ = self.base_id, [VectorId(entry.id) for entry in self.vectors], [ReadoutId(one.id) for one in self.readouts]
        _ = [FisherId(entry.fisher) for entry in self.vectors if entry.fisher]
        return RecipeId(objects.put("recipe", self.encode()))

    @classmethod
    def get(cls, objects: ObjectStore, name: RecipeId) -> Recipe:
        """Read it."""
        return cls.decode(objects.get(name, "recipe"))

    @staticmethod
    def entry_in(objects: ObjectStore, name: RecipeId, what: str) -> Entry | ReadoutEntry | None:
        """The vector or readout called ``what`` of a kept recipe; the other vectors are not taken apart."""
        said = f'"name":{json.dumps(what, ensure_ascii=False)}'
        text = objects.text(name, "recipe")
        vectors = text.index('"vectors":[')  # not in a string of the recipe: there, quotes would be escaped
        at = text.find(said, vectors)
        if at < 0:
            return Recipe.decode(json.loads(text)).readout(what) if said in text[:vectors] else None
        fields, _ = json.JSONDecoder().raw_decode(text, text.rfind(ENTRY_BEGINS, 0, at))
        return Entry.decode(fields)


ENTRY_BEGINS = '{"alpha":'
"""How a vector begins in canonical JSON, whose keys are sorted: every one has an alpha, and no key before it."""


def _encode_entry(entry: Entry) -> dict[str, Any]:
    fields = {
        "name": entry.name,
        "id": entry.id,
        "alpha": alphas.encode(entry.alpha),
        "node": entry.node,
        "only": list(entry.only),
        "except": list(entry.excepted),
    }
    own = {"parameters": dict(entry.parameters)} if entry.parameters else {}
    fisher = {"fisher": entry.fisher} if entry.fisher else {}  # absent from others, whose recipes' ids stay
    return fields | own | fisher | ({"specification": entry.specification} if entry.specification else {})
