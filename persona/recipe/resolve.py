"""Complete the ids that people type, and check that everything in a recipe belongs together.

Vectors and readouts must belong to the recipe's base, and Fisher diagonals to their vectors.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from persona.errors import RecipeError, WrongBase
from persona.ids import BaseId, FisherId, ObjectId, ReadoutId, VectorId
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import FILE
from persona.settings import dotted, place
from persona.store.fishers import Fisher
from persona.store.nouns import Vector
from persona.store.objects import ObjectStore
from persona.store.readouts import StoredReadout


def resolve(recipe: Recipe, objects: ObjectStore, known: Recipe | None = None, text: str = "") -> Recipe:
    """Return `recipe` with complete ids.

    Args:
        known: A resolved recipe. Ids in it are trusted without reading the objects again, and its vectors keep
            the snapshots that they implement while they keep their node.
        text: The file that `recipe` was read from, for line numbers in errors.

    Raises:
        RecipeError: an id is unknown or ambiguous, or a Fisher diagonal is not the vector's.
        WrongBase: a vector or readout belongs to another base.
    """
    resolver = _Resolver(recipe, objects, known, text)
    vectors = tuple(map(resolver.vector, recipe.vectors))
    return replace(recipe, base=resolver.base, vectors=vectors).with_readouts(map(resolver.readout, recipe.readouts))


class _Resolver:
    """Completes the ids of one recipe, and trusts those of a known recipe of the same base."""

    def __init__(self, recipe: Recipe, objects: ObjectStore, known: Recipe | None, text: str) -> None:
        self._recipe, self._objects, self._text = recipe, objects, text
        self.base = BaseId(self._complete(recipe.base, "base", ("base", "id"), {known.base} if known else ()))
        trusted = known if known and known.base == self.base else Recipe(self.base, "")
        self._vectors = {entry.id for entry in trusted.vectors}
        self._fishers = {(entry.id, entry.fisher) for entry in trusted.vectors}
        self._pins = {(entry.id, entry.node): entry.specification for entry in trusted.vectors}
        self._readouts = {entry.id for entry in trusted.readouts}

    def vector(self, entry: Entry) -> Entry:
        name = VectorId(self._complete(entry.id, "vector", ("vectors", entry.name, "id"), self._vectors))
        if name not in self._vectors:
            own = Vector.get(self._objects, name).base
            self._check_base(
                f"vector '{entry.name}'",
                name,
                own,
                "A vector applies only to the base it was made from: remove it, or commit a run of this base.",
            )
        pin = self._pins.get((name, entry.node))
        return replace(entry, id=name, fisher=self._fisher(entry, name), specification=pin)

    def readout(self, entry: ReadoutEntry) -> ReadoutEntry:
        name = ReadoutId(self._complete(entry.id, "readout", ("readouts", entry.name, "id"), self._readouts))
        if name not in self._readouts:
            own = StoredReadout.get(self._objects, name).base
            self._check_base(
                f"readout '{entry.name}'",
                name,
                own,
                "A readout measures only models of its own base: remove it, or train one on this base.",
            )
        return ReadoutEntry(entry.name, name)

    def _fisher(self, entry: Entry, vector: VectorId) -> FisherId | None:
        """Complete the id of a vector's Fisher diagonal; raise if it was estimated for another vector."""
        if entry.fisher is None:
            return None
        path = ("vectors", entry.name, "fisher")
        trusted = {fisher for of, fisher in self._fishers if of == vector and fisher}
        name = FisherId(self._complete(entry.fisher, "fisher", path, trusted))
        problem = None if name in trusted else self._unfit(Fisher.get(self._objects, name), vector)
        if problem:
            raise RecipeError(
                f"{self._where(path)}: {name.short} {problem}",
                f"Remove the line and estimate one: persona fisher {entry.name} --data FILE.jsonl",
            )
        return name

    def _unfit(self, fisher: Fisher, vector: VectorId) -> str | None:
        """Return why a vector cannot use a Fisher diagonal, or None."""
        if fisher.base != self.base:
            return f"belongs to base {fisher.base.short}"
        if fisher.recipe is None or fisher.trace is None:
            return "was estimated for a training run, not for a vector"
        of = Recipe.get(self._objects, fisher.recipe)
        alone = Recipe(of.base, of.base_name, tuple(Entry(entry.name, vector) for entry in of.vectors[:1]))
        return None if of == alone else f"was not estimated for this vector ({vector.short}) alone on its base"

    def _complete(self, prefix: str, kind: str, path: tuple[str, ...], trusted: Collection[str]) -> ObjectId:
        candidates = self._objects.matching(prefix)
        if len(candidates) == 1 and candidates[0] in trusted:
            return candidates[0]
        matches = [name for name in candidates if self._objects.kind(name) == kind]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(name.short for name in matches)
            raise RecipeError(f"{self._where(path)}: '{prefix}' is ambiguous: {names}", "Type more of the id.")
        hint = "Commit the run that it comes from, or use an id that 'persona log' or 'persona show' prints."
        if kind == "fisher":
            hint = f"Remove the line, or estimate it again: persona fisher {path[1]} --data FILE.jsonl"
        raise RecipeError(f"{self._where(path)}: no {kind} '{prefix}' in this repository", hint)

    def _where(self, path: tuple[str, ...]) -> str:
        """Return the file, the line and the key, as errors begin."""
        return f"{place(FILE, self._text, path)}: {dotted(path)}"

    def _check_base(self, what: str, name: ObjectId, own: BaseId, hint: str) -> None:
        if own != self.base:
            raise WrongBase(
                f"{what} ({name.short}) belongs to base {own.short}, "
                f"but the recipe's base is {self._recipe.base_name or 'unnamed'} ({self.base.short})",
                hint,
            )
