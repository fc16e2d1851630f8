"""Three-way merging of recipes: what each side changed since they parted, put together.

A recipe is taken apart into *slots* (a path such as ``vectors.listening.alpha``, and a value). For each slot, with B
what the merge base has, O what is ours and T what is theirs:

    O = T             →  O
    O = B             →  T            only they changed it
    T = B             →  O            only we did
    otherwise         →  a clash      the one side is taken if that was asked for

A vector that one side took out and the other one left alone is out; if the other one changed it, that is a clash about
the whole vector. A Fisher diagonal belongs to the vector that it was estimated for: where the sides have different ones, it
comes from the side whose vector is taken. A readout is like a vector that has nothing but an id. Parameters belong to their method: those of the side whose method is taken. Where there are several
merge bases (criss-cross histories) they are merged first, as git does, and a slot on which they clash equals nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from persona import methods
from persona.errors import UsageError
from persona.ids import SHORT
from persona.recipe import alphas
from persona.recipe.model import Entry, ReadoutEntry, Recipe

Path = tuple[str, ...]
Slots = dict[Path, Any]

OURS, THEIRS = "ours", "theirs"


class _Unsettled:
    """The value of a slot on which merge bases clash; equal to itself only."""


MISSING: Final = None
"""A slot that a side has not: no key says nothing."""

_FIELDS = ("id", "alpha", "node", "only", "except", "fisher")
_FISHER = "fisher"
_TABLES = ("vectors", "readouts")


@dataclass(frozen=True)
class MergeConflict:
    """A slot, or a whole vector or readout, that the two sides changed differently. None: it is not there."""

    path: Path
    before: Any
    ours: Any
    theirs: Any

    @property
    def where(self) -> str:
        """As errors write keys."""
        return ".".join(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether it is about a whole vector or readout."""
        return self.path[0] in _TABLES and len(self.path) == 2

    @property
    def text(self) -> str:
        """In a few words."""
        if self.is_whole:
            gone, changed = ("we", "they") if self.ours is None else ("they", "we")
            return f"{self.where}: {gone} took it out, {changed} changed it"
        if self.path[2:] == ("id",):
            return f"{self.where}: {'retrained' if self.before is not None else 'added'} on both sides"
        if self.path[2:] == (_FISHER,):
            return f"{self.where}: ours {_shown(self.ours)}, theirs {_shown(self.theirs)}"
        return f"{self.where}: ours {_said(self.ours)}, theirs {_said(self.theirs)}"


@dataclass(frozen=True)
class MergedRecipe:
    """The recipe that comes out (with our side of each clash) and what is still to be decided."""

    recipe: Recipe
    clashes: tuple[MergeConflict, ...] = ()


def merge(bases: Sequence[Recipe], ours: Recipe, theirs: Recipe, prefer: str | None = None) -> MergedRecipe:
    """Three ways; ``prefer`` settles clashes: ``ours`` or ``theirs``.

    ``bases`` are those of the merge bases, merged one after another if there are several. UsageError if the two
    sides have different bases of weights.
    """
    slots: list[Slots] = [_slots(one) for one in bases]
    common: Slots = slots[0] if slots else {}
    for one in slots[1:]:
        merged, clashes = _merge({}, common, one, None)
        common = merged | {clash.path: _Unsettled() for clash in clashes}
    merged, clashes = _merge(common, _slots(ours), _slots(theirs), prefer)
    return MergedRecipe(_recipe(merged, (ours, theirs)), tuple(_public(clash) for clash in clashes))


def _public(clash: MergeConflict) -> MergeConflict:
    return replace(clash, before=None) if isinstance(clash.before, _Unsettled) else clash


def _merge(before: Slots, ours: Slots, theirs: Slots, prefer: str | None) -> tuple[Slots, list[MergeConflict]]:
    merged: Slots = {}
    clashes: list[MergeConflict] = []

    def settle(path: Path, b: Any, o: Any, t: Any) -> Any:
        """What a slot becomes."""
        if o == t or t == b:
            return o
        if o == b:
            return t
        if prefer is None:
            clashes.append(MergeConflict(path, b, o, t))
        return t if prefer == THEIRS else o

    o_base, t_base = ours[("base",)], theirs[("base",)]
    if o_base[0] != t_base[0]:
        raise UsageError(
            f"the two sides have different bases: {o_base[1]} ({o_base[0][:12]}) and {t_base[1]} ({t_base[0][:12]})",
            "Vectors belong to one base: histories of different bases cannot be merged.",
        )
    merged[("base",)] = settle(("base", "name"), before.get(("base",)), o_base, t_base)
    _merge_settings(before, ours, theirs, merged, settle, clashes)
    for kind in _TABLES:
        tables = [_tables(kind, one) for one in (before, ours, theirs)]
        for name in dict.fromkeys([*tables[1], *tables[2]]):
            _merge_table((kind, name), [one.get(name, {}) for one in tables], merged, settle)
    return merged, clashes


def _merge_settings(
    before: Slots, ours: Slots, theirs: Slots, merged: Slots, settle: Any, clashes: list[MergeConflict]
) -> None:
    """``[merge]``: scale and method by themselves, parameters with their method."""
    for key in ("scale", "method"):
        path: Path = ("merge", key)
        merged[path] = settle(path, before.get(path), ours[path], theirs[path])
    method = merged[("merge", "method")]
    sides = [one for one in (ours, theirs) if one[("merge", "method")] == method]
    if any(clash.path == ("merge", "method") for clash in clashes) or len(sides) == 1:
        merged.update({path: value for path, value in sides[0].items() if path[0] == "merge" and path not in merged})
        return
    for path in dict.fromkeys(p for p in [*ours, *theirs] if p[0] == "merge" and p not in merged):
        value = settle(path, before.get(path), ours.get(path), theirs.get(path))
        if value is not MISSING:
            merged[path] = value


def _merge_table(table: Path, sides: Sequence[dict[str, Any]], merged: Slots, settle: Any) -> None:
    """One vector or readout, as it was before, as ours and as theirs."""
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
    """Each vector's slots by key, or each readout's; a whole one on which bases clash is one that equals nothing."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in slots.items():
        if path[0] == kind and len(path) == 3:
            found.setdefault(path[1], {})[path[2]] = value
    whole = {path[1]: {"id": value} for path, value in slots.items() if path[0] == kind and len(path) == 2}
    return found | whole


def _slots(recipe: Recipe) -> Slots:
    slots: Slots = {
        ("base",): (recipe.base, recipe.base_name),
        ("merge", "method"): recipe.method,
        ("merge", "scale"): recipe.scale,
        **{("merge", key): value for key, value in recipe.parameters.items()},
    }
    for entry in recipe.vectors:
        said = (entry.id, entry.alpha, entry.node, entry.only or None, entry.excepted or None, entry.fisher)
        own = {**dict(zip(_FIELDS, said, strict=True)), **entry.parameters}
        slots |= {("vectors", entry.name, key): value for key, value in own.items() if value is not MISSING}
    return slots | {("readouts", one.name, "id"): one.id for one in recipe.readouts}


def _recipe(slots: Slots, sides: Sequence[Recipe]) -> Recipe:
    method = slots[("merge", "method")]
    declared = methods.load(method).PARAMETERS
    base, base_name = slots[("base",)]
    merged = replace(
        sides[0],
        base=base,
        base_name=base_name,
        method=method,
        scale=slots[("merge", "scale")],
        parameters={p[1]: v for p, v in slots.items() if p[0] == "merge" and p[1] not in ("method", "scale")},
        vectors=tuple(_entry(name, own, declared) for name, own in _tables("vectors", slots).items()),
    )
    return merged.with_readouts(ReadoutEntry(name, own["id"]) for name, own in _tables("readouts", slots).items())


def _entry(name: str, own: Mapping[str, Any], declared: Mapping[str, Any]) -> Entry:
    """A vector; parameters that the method has not stay behind."""
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


def _shown(name: str | None) -> str:
    return name[:SHORT] if name else "unset"


def _said(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return ", ".join(value)
    return alphas.alpha_text(value) if isinstance(value, float | tuple) else str(value)
