"""Complete the ids that people type, and check that vectors and readouts belong to the base, and Fisher diagonals to their
vectors."""

from __future__ import annotations

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
    bases = {known.base} if known else set()
    trusted = {entry.id for entry in known.vectors} if known else set()
    pins = {(entry.id, entry.node): entry.specification for entry in known.vectors} if known else {}
    weighed = {(entry.id, entry.fisher) for entry in known.vectors} if known else set()
    base = BaseId(_whole(recipe.base, "base", ("base", "id"), objects, bases, text))
    same_base = known is not None and known.base == base
    vectors = []
    for entry in recipe.vectors:
        name = VectorId(_whole(entry.id, "vector", ("vectors", entry.name, "id"), objects, trusted, text))
        if not (same_base and name in trusted):
            _check_base(entry, name, base, recipe.base_name, objects)
        fisher = _fisher(entry, name, base, objects, weighed if same_base else set(), text)
        vectors.append(replace(entry, id=name, fisher=fisher, specification=pins.get((name, entry.node))))
    readouts = _readouts(recipe, base, objects, known, text)
    return replace(recipe, base=base, vectors=tuple(vectors)).with_readouts(readouts)


def _fisher(
    entry: Entry,
    vector: VectorId,
    base: BaseId,
    objects: ObjectStore,
    trusted: set[tuple[str, str | None]],
    text: str,
) -> FisherId | None:
    """Complete the id of a vector's Fisher diagonal; raise if it was estimated for another vector."""
    if entry.fisher is None:
        return None
    path = ("vectors", entry.name, "fisher")
    mine = {name for of, name in trusted if of == vector and name}
    name = FisherId(_whole(entry.fisher, "fisher", path, objects, mine, text))
    if name not in mine:
        wrong = _unfit(Fisher.get(objects, name), vector, base, objects)
        if wrong:
            raise RecipeError(
                f"{_where(path, text)}: {name.short} {wrong}",
                f"Remove the line and estimate one: persona fisher {entry.name} --data FILE.jsonl",
            )
    return name


def _unfit(fisher: Fisher, vector: VectorId, base: BaseId, objects: ObjectStore) -> str | None:
    """Return why a vector cannot use a Fisher diagonal, or None."""
    if fisher.base != base:
        return f"belongs to base {fisher.base.short}"
    if fisher.recipe is None or fisher.trace is None:
        return "was estimated for a training run, not for a vector"
    of = Recipe.get(objects, fisher.recipe)
    alone = Recipe(of.base, of.base_name, tuple(Entry(entry.name, vector) for entry in of.vectors[:1]))
    return None if of == alone else f"was not estimated for this vector ({vector.short}) alone on its base"


def _readouts(
    recipe: Recipe, base: BaseId, objects: ObjectStore, known: Recipe | None, text: str
) -> list[ReadoutEntry]:
    trusted = {entry.id for entry in known.readouts} if known else set()
    readouts = []
    for entry in recipe.readouts:
        name = ReadoutId(_whole(entry.id, "readout", ("readouts", entry.name, "id"), objects, trusted, text))
        if not (known is not None and known.base == base and name in trusted):
            own = StoredReadout.get(objects, name).base
            if own != base:
                raise _wrong_base(f"readout '{entry.name}'", name, own, base, recipe.base_name)
        readouts.append(ReadoutEntry(entry.name, name))
    return readouts


_RUN = "Commit the run that it comes from, or use an id that 'persona log' or 'persona show' prints."
_MISSING = {"fisher": "Remove the line, or estimate it again: persona fisher NAME --data FILE.jsonl"}


def _whole(
    prefix: str, kind: str, path: tuple[str, ...], objects: ObjectStore, trusted: set[str], text: str
) -> ObjectId:
    candidates = objects.matching(prefix)
    if len(candidates) == 1 and candidates[0] in trusted:
        return candidates[0]
    matches = [name for name in candidates if objects.kind(name) == kind]
    if len(matches) == 1:
        return matches[0]
    where = _where(path, text)
    if matches:
        names = ", ".join(name.short for name in matches)
        raise RecipeError(f"{where}: '{prefix}' is ambiguous: {names}", "Type more of the id.")
    raise RecipeError(f"{where}: no {kind} '{prefix}' in this repository", _MISSING.get(kind, _RUN))


def _where(path: tuple[str, ...], text: str) -> str:
    """Return the file, the line and the key, as errors begin."""
    return f"{place(FILE, text, path)}: {dotted(path)}"


def _check_base(entry: Entry, name: VectorId, base: BaseId, base_name: str, objects: ObjectStore) -> None:
    own = Vector.get(objects, name).base
    if own != base:
        raise _wrong_base(f"vector '{entry.name}'", name, own, base, base_name)


def _wrong_base(what: str, name: ObjectId, own: BaseId, base: BaseId, base_name: str) -> WrongBase:
    return WrongBase(
        f"{what} ({name.short}) belongs to base {own.short}, "
        f"but the recipe's base is {base_name or 'unnamed'} ({base.short})",
        "A vector applies only to the base it was made from: remove it, or commit a run of this base."
        if what.startswith("vector")
        else "A readout measures only models of its own base: remove it, or train one on this base.",
    )
