"""Merge recipes three ways: combine what each side changed since their merge base.

A recipe is split into *slots* (a path such as ``vectors.listening.alpha``, and a value). For each slot, with B the
value in the merge base, O in ours and T in theirs:

    O = T             →  O
    O = B             →  T            only they changed it
    T = B             →  O            only we did
    otherwise         →  a clash      `prefer` can settle it

A vector that one side removed and the other did not change is removed; if the other side changed it, the whole vector
clashes. A Fisher diagonal belongs to the vector that it was estimated for: if the sides have different vectors, it
comes from the side whose vector is kept. A choice of files or settings that names a vector which is removed is
removed with it. A readout is like a vector that has only an id. Parameters come from the side
whose method is kept. Several merge bases (criss-cross histories) are merged first, as in git; a slot on which they
clash equals nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from persona import methods
from persona.errors import UsageError
from persona.recipe import alphas
from persona.recipe.choices import FILES, SETTINGS, Choices
from persona.recipe.model import Entry, ReadoutEntry, Recipe, short

Path = tuple[str, ...]
Slots = dict[Path, Any]

OURS, THEIRS = "ours", "theirs"


class _Unsettled:
    """The value of a slot on which merge bases clash; equals only itself."""


MISSING: Final = None
"""The value of a slot that a side does not have: no key can be null."""

_FIELDS = ("id", "alpha", "node", "only", "except", "fisher")
_FISHER = "fisher"
_TABLES = ("vectors", "readouts")
_BASE: Final = ("base", "id")
_BASE_NAME: Final = ("base", "name")


@dataclass(frozen=True)
class MergeConflict:
    """A key, or a whole vector or readout, that both sides changed differently.

    ``path`` is its name in persona.toml; ``before``, ``ours`` and ``theirs`` are its values, null where it is not set.
    """

    path: Path
    before: Any
    ours: Any
    theirs: Any

    @property
    def where(self) -> str:
        """The path as one name: "vectors.calm.alpha"."""
        return ".".join(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether a whole vector or readout clashes."""
        return self.path[0] in _TABLES and len(self.path) == 2

    @property
    def text(self) -> str:
        """The clash in a few words."""
        if self.is_whole:
            gone, changed = ("we", "they") if self.ours is None else ("they", "we")
            return f"{self.where}: {gone} removed it, {changed} changed it"
        if self.path[2:] == ("id",):
            return f"{self.where}: {'retrained' if self.before is not None else 'added'} on both sides"
        if self.path[2:] == (_FISHER,):
            return f"{self.where}: ours {short(self.ours)}, theirs {short(self.theirs)}"
        return f"{self.where}: ours {_value_text(self.ours)}, theirs {_value_text(self.theirs)}"


@dataclass(frozen=True)
class MergedRecipe:
    """The merged recipe, with our side of each clash, and the clashes."""

    recipe: Recipe
    clashes: tuple[MergeConflict, ...] = ()


def merge(bases: Sequence[Recipe], ours: Recipe, theirs: Recipe, prefer: str | None = None) -> MergedRecipe:
    """Merge two recipes.

    Args:
        bases: Recipes of the merge bases; several are merged one after another.
        prefer: The side that settles clashes, "ours" or "theirs"; None keeps them.

    Raises:
        UsageError: the sides have different base models.
    """
    slots: list[Slots] = [_slots(base) for base in bases]
    common: Slots = slots[0] if slots else {}
    for other in slots[1:]:
        merged, clashes = _merge({}, common, other, None)
        common = merged | {clash.path: _Unsettled() for clash in clashes}
    merged, clashes = _merge(common, _slots(ours), _slots(theirs), prefer)
    return MergedRecipe(_recipe(merged), tuple(_public(clash) for clash in clashes))


def _public(clash: MergeConflict) -> MergeConflict:
    values = clash.before.values() if isinstance(clash.before, dict) else (clash.before,)
    return replace(clash, before=None) if any(isinstance(value, _Unsettled) for value in values) else clash


def _merge(before: Slots, ours: Slots, theirs: Slots, prefer: str | None) -> tuple[Slots, list[MergeConflict]]:
    merged: Slots = {}
    clashes: list[MergeConflict] = []

    def settle(path: Path, b: Any, o: Any, t: Any) -> Any:
        """Return the merged value of a slot, and note a clash."""
        if o == t or t == b:
            return o
        if o == b:
            return t
        if prefer is None:
            clashes.append(MergeConflict(path, b, o, t))
        return t if prefer == THEIRS else o

    if ours[_BASE] != theirs[_BASE]:
        o_base, t_base = (f"{side[_BASE_NAME]} ({short(side[_BASE])})" for side in (ours, theirs))
        raise UsageError(
            f"the two sides have different bases: {o_base} and {t_base}",
            "Vectors belong to one base: histories of different bases cannot be merged.",
        )
    merged[_BASE] = ours[_BASE]
    merged[_BASE_NAME] = settle(_BASE_NAME, before.get(_BASE_NAME), ours[_BASE_NAME], theirs[_BASE_NAME])
    _merge_settings(before, ours, theirs, merged, settle)
    for path in dict.fromkeys(path for path in [*ours, *theirs] if path[0] in (FILES, SETTINGS)):
        value = settle(path, before.get(path), ours.get(path), theirs.get(path))
        if value is not MISSING:
            merged[path] = value
    for kind in _TABLES:
        tables = [_tables(kind, slots) for slots in (before, ours, theirs)]
        for name in dict.fromkeys([*tables[1], *tables[2]]):
            _merge_table((kind, name), [table.get(name, {}) for table in tables], merged, settle)
    return merged, clashes


def _merge_settings(before: Slots, ours: Slots, theirs: Slots, merged: Slots, settle: Any) -> None:
    """Merge ``[merge]``: scale and method separately, parameters with their method."""
    for key in ("scale", "method"):
        path: Path = ("merge", key)
        merged[path] = settle(path, before.get(path), ours[path], theirs[path])
    method = merged[("merge", "method")]
    sides = [side for side in (ours, theirs) if side[("merge", "method")] == method]
    if len(sides) == 1:
        merged.update({path: value for path, value in sides[0].items() if path[0] == "merge" and path not in merged})
        return
    for path in dict.fromkeys(p for p in [*ours, *theirs] if p[0] == "merge" and p not in merged):
        value = settle(path, before.get(path), ours.get(path), theirs.get(path))
        if value is not MISSING:
            merged[path] = value


def _merge_table(table: Path, sides: Sequence[dict[str, Any]], merged: Slots, settle: Any) -> None:
    """Merge one vector or readout; `sides` are its values before, in ours and in theirs."""
    b, o, t = sides
    if o and t:
        for key in dict.fromkeys([*o, *t]):
            path = (*table, key)
            if key == _FISHER and o["id"] != t["id"]:
                value = (o if merged[(*table, "id")] == o["id"] else t).get(key)
            else:
                is_of_another = key == _FISHER and b.get("id") != o["id"]
                value = settle(path, MISSING if is_of_another else b.get(key), o.get(key), t.get(key))
            if value is not MISSING:
                merged[path] = value
        return
    kept = settle(table, b or None, o or None, t or None)
    merged.update({(*table, key): value for key, value in (kept or {}).items()})


def _tables(kind: str, slots: Slots) -> dict[str, dict[str, Any]]:
    """Return the slots of each vector or readout by key."""
    tables: dict[str, dict[str, Any]] = {}
    for path, value in slots.items():
        if path[0] == kind:
            tables.setdefault(path[1], {})[path[2]] = value
    return tables


def _slots(recipe: Recipe) -> Slots:
    slots: Slots = {
        _BASE: recipe.base,
        _BASE_NAME: recipe.base_name,
        ("merge", "method"): recipe.method,
        ("merge", "scale"): recipe.scale,
        **{("merge", key): value for key, value in recipe.parameters.items()},
    }
    for entry in recipe.vectors:
        values = (entry.id, entry.alpha, entry.node, entry.only or None, entry.excepted or None, entry.fisher)
        own = {**dict(zip(_FIELDS, values, strict=True)), **entry.parameters}
        slots |= {("vectors", entry.name, key): value for key, value in own.items() if value is not MISSING}
    slots |= recipe.choices.slots()
    return slots | {("readouts", readout.name, "id"): readout.id for readout in recipe.readouts}


def _recipe(slots: Slots) -> Recipe:
    method = slots[("merge", "method")]
    declared = methods.load(method).PARAMETERS
    merged = Recipe(
        base=slots[_BASE],
        base_name=slots[_BASE_NAME],
        method=method,
        scale=slots[("merge", "scale")],
        parameters={p[1]: v for p, v in slots.items() if p[0] == "merge" and p[1] not in ("method", "scale")},
        vectors=tuple(_entry(name, own, declared) for name, own in _tables("vectors", slots).items()),
    )
    names = [entry.name for entry in merged.vectors]  # a choice goes with the vector that it names
    merged = replace(merged, choices=Choices.of_slots(slots).only(names))
    return merged.with_readouts(ReadoutEntry(name, own["id"]) for name, own in _tables("readouts", slots).items())


def _entry(name: str, own: Mapping[str, Any], declared: Mapping[str, Any]) -> Entry:
    """Make a vector, without parameters that the merged method does not have."""
    return Entry(
        name=name,
        id=own["id"],
        alpha=own["alpha"],
        node=own.get("node"),
        only=own.get("only", ()),
        excepted=own.get("except", ()),
        fisher=own.get(_FISHER),
        parameters={
            key: value
            for key, value in own.items()
            if key not in _FIELDS and key in declared and declared[key].per_vector
        },
    )


def _value_text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return ", ".join(value)
    if isinstance(value, bool):
        return str(value).lower()  # as in TOML
    return alphas.alpha_text(value) if isinstance(value, float | tuple) else str(value)
