"""Recipes: a base, vectors with their alphas, the merge method, and the readouts that measure the result.

    recipe   {base, base_name, method, scale, parameters, vectors: [{name, id, alpha, node, only, except}]}
             and files: {group: name}, config: {from: name, set: [[path, value]]}, if it chooses any

A vector also has ``parameters`` if it has its own, ``fisher`` if a Fisher diagonal was estimated for it, and
``specification``, the id of the snapshot of its node that it implements, if that is known. In persona.toml people write
the name of the node only; a commit pins the snapshot. A recipe with readouts also has ``readouts: [{name, id}]``,
sorted by name, because their order does not matter.

In a parsed recipe, ids may be prefixes, as people type them; in a resolved one, they are complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from persona.ids import SHORT, BaseId, FisherId, NodeId, ReadoutId, RecipeId, VectorId
from persona.methods.parts.parameters import Value
from persona.recipe import alphas
from persona.recipe.choices import Choices
from persona.store.fields import ident, number, rows, shown, table, text, texts
from persona.store.objects import ObjectStore, decoding

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
"""A valid name of a vector or readout: it becomes part of the names of files."""


@dataclass(frozen=True)
class Entry:
    """A vector in a recipe, with the name and strength that the recipe gives it."""

    name: str
    id: str
    alpha: alphas.Alpha = 1.0
    node: str | None = None
    only: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    fisher: str | None = None
    specification: NodeId | None = field(default=None, compare=False)  # does not affect builds

    def touches(self, tensor: str) -> bool:
        """Return whether the patterns of ``only`` and ``except`` let this vector change `tensor`."""
        if self.only and not any(fnmatchcase(tensor, pattern) for pattern in self.only):
            return False
        return not any(fnmatchcase(tensor, pattern) for pattern in self.excepted)

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Entry:
        """Read an entry of a stored recipe; ValueError or KeyError if it is none."""
        fields = table(fields, "a vector")
        return cls(
            name=_name(fields["name"]),
            id=ident(VectorId, fields["id"], "the id of a vector"),
            alpha=alphas.decode(fields["alpha"]),
            node=None if fields["node"] is None else text(fields["node"], "node"),
            only=texts(fields["only"], "only"),
            excepted=texts(fields["except"], "except"),
            parameters=_parameters(fields.get("parameters", {})),
            fisher=ident(FisherId, fields["fisher"], "fisher") if "fisher" in fields else None,
            specification=ident(NodeId, fields["specification"], "specification")
            if "specification" in fields
            else None,
        )

    def with_vector(self, name: str) -> Entry:
        """Return this entry with the vector `name`; a different vector loses the Fisher diagonal."""
        return replace(self, id=name, fisher=self.fisher if name == self.id else None)


@dataclass(frozen=True)
class ReadoutEntry:
    """A readout in a recipe. It does not change weights."""

    name: str
    id: str


@dataclass(frozen=True)
class Recipe:
    """What a build is made of, and its readouts."""

    base: str
    base_name: str
    vectors: tuple[Entry, ...] = ()
    method: str = "linear"
    scale: float = 1.0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    readouts: tuple[ReadoutEntry, ...] = ()
    choices: Choices = field(default_factory=Choices)

    def entry(self, name: str) -> Entry | None:
        """Return the vector called `name`, if there is one."""
        return next((entry for entry in self.vectors if entry.name == name), None)

    @property
    def names(self) -> dict[str, str]:
        """Ids of vectors and readouts, by name."""
        readouts = {entry.name: entry.id for entry in self.readouts}
        return {entry.name: entry.id for entry in self.vectors} | readouts

    def readout(self, name: str) -> ReadoutEntry | None:
        """Return the readout called `name`, if there is one."""
        return next((entry for entry in self.readouts if entry.name == name), None)

    def with_readouts(self, entries: Iterable[ReadoutEntry]) -> Recipe:
        """Return this recipe with these readouts, sorted by name."""
        return replace(self, readouts=tuple(sorted(entries, key=lambda entry: entry.name)))

    def with_readout(self, name: str, entry: ReadoutEntry | None) -> Recipe:
        """Return this recipe with this readout, or without it for None."""
        others = [readout for readout in self.readouts if readout.name != name]
        return self.with_readouts([*others, *([entry] if entry is not None else [])])

    def with_entry(self, name: str, entry: Entry | None) -> Recipe:
        """Return this recipe with this vector, in its place or at the end, or without it for None."""
        vectors = [entry if vector.name == name else vector for vector in self.vectors]
        if entry is not None and self.entry(name) is None:
            vectors.append(entry)
        return replace(self, vectors=tuple(vector for vector in vectors if vector is not None))

    @property
    def base_id(self) -> BaseId:
        """Complete id of the base; raises ValueError if the recipe is not resolved."""
        return BaseId(self.base)

    def encode(self) -> dict[str, Any]:
        """Return the fields that objects and receipts store."""
        fields = {
            "base": self.base,
            "base_name": self.base_name,
            "method": self.method,
            "scale": self.scale,
            "parameters": dict(self.parameters),
            "vectors": [_encode_entry(entry) for entry in self.vectors],
        }
        readouts = [{"name": entry.name, "id": entry.id} for entry in self.readouts]
        # none of these if empty: ids of older recipes must not change
        return fields | ({"readouts": readouts} if readouts else {}) | self.choices.encode()

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Recipe:
        """Read the fields that objects and receipts store; ValueError or KeyError if they are none."""
        fields = table(fields, "the recipe")
        recipe = cls(
            base=ident(BaseId, fields["base"], "base"),
            base_name=text(fields["base_name"], "base_name"),
            vectors=tuple(Entry.decode(value) for value in rows(fields["vectors"], "vectors")),
            method=text(fields["method"], "method"),
            scale=number(fields["scale"], "scale"),
            parameters=_parameters(fields["parameters"]),
            readouts=tuple(_readout(value) for value in rows(fields.get("readouts", []), "readouts")),
            choices=Choices.decode(fields),
        )
        if len(recipe.names) != len(recipe.vectors) + len(recipe.readouts):
            raise ValueError("two of its vectors or readouts have the same name")
        return recipe

    def put(self, objects: ObjectStore) -> RecipeId:
        """Store a resolved recipe and return its id."""
        # these raise ValueError for ids that are not complete
        _ = self.base_id, [VectorId(e.id) for e in self.vectors], [ReadoutId(e.id) for e in self.readouts]
        _ = [FisherId(entry.fisher) for entry in self.vectors if entry.fisher]
        return RecipeId(objects.put("recipe", self.encode()))

    @classmethod
    def get(cls, objects: ObjectStore, name: RecipeId) -> Recipe:
        """Read a stored recipe; Damaged if the object is missing, damaged or not a valid recipe."""
        fields = objects.get(name, "recipe")
        with decoding("recipe", name):
            return cls.decode(fields)

    @staticmethod
    def entry_in(objects: ObjectStore, name: RecipeId, what: str) -> Entry | ReadoutEntry | None:
        """Read the vector or readout called `what` of a stored recipe, without decoding the others."""
        field = f'"name":{json.dumps(what, ensure_ascii=False)}'
        stored = objects.text(name, "recipe")
        with decoding("recipe", name):
            vectors = stored.index('"vectors":[')  # cannot match inside a string, where quotes are escaped
            at = stored.find(field, vectors)
            if at < 0:
                return Recipe.decode(json.loads(stored)).readout(what) if field in stored[:vectors] else None
            fields, _ = json.JSONDecoder().raw_decode(stored, stored.rfind(ENTRY_BEGINS, 0, at))
            return Entry.decode(fields)


def _name(value: Any) -> str:
    if not NAME.fullmatch(text(value, "name")):
        raise ValueError(f"{shown(value)} is not a valid name")
    return str(value)


def _parameters(value: Any) -> Mapping[str, Value]:
    parameters = table(value, "parameters")
    for key, one in parameters.items():
        if not isinstance(one, str | bool):
            number(one, key)
    return parameters


def _readout(value: Any) -> ReadoutEntry:
    fields = table(value, "a readout")
    return ReadoutEntry(_name(fields["name"]), ident(ReadoutId, fields["id"], "the id of a readout"))


ENTRY_BEGINS = '{"alpha":'
"""How a vector begins in canonical JSON, whose keys are sorted: every vector has an alpha, which sorts first."""


def short(name: str | None) -> str:
    """Return a short id for messages; "unset" if there is none."""
    return name[:SHORT] if name else "unset"


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
    fisher = {"fisher": entry.fisher} if entry.fisher else {}  # not if empty: ids of older recipes must not change
    return fields | own | fisher | ({"specification": entry.specification} if entry.specification else {})
