"""The changes between two recipes, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from persona.ids import ReadoutId
from persona.recipe import alphas, derived
from persona.recipe.model import Entry, ReadoutEntry, Recipe, short
from persona.store.objects import ObjectStore
from persona.store.readouts import StoredReadout

FISHER = "fisher"
READOUT_ADDED, READOUT_REMOVED, READOUT_RETRAINED = "readout added", "readout removed", "readout retrained"


@dataclass(frozen=True)
class RecipeChange:
    """One change of a recipe.

    ``kind`` is added, removed, alpha, retrained, renamed, setting, moved, specification, fisher, readout added, readout
    removed or readout retrained. ``name`` is the vector, readout or setting, ``before`` and ``after`` are its values.
    ``meaning`` is the sum that a derived vector stands for, or what an added readout measures. ``cosine`` compares a
    retrained vector or readout with the previous one; null if weights were not read. For readouts it is the mean over
    all directions that both have.
    """

    kind: str
    name: str
    before: Any
    after: Any
    meaning: str = ""
    cosine: float | None = None

    @property
    def text(self) -> str:
        """The change in a few words."""
        if self.kind == "added":
            return f"+ {self.name} α {alphas.alpha_text(self.after)}{f' = {self.meaning}' if self.meaning else ''}"
        if self.kind == "removed":
            return f"- {self.name} α {alphas.alpha_text(self.before)}"
        if self.kind.startswith("readout "):
            return self._of_readout()
        if self.kind == "alpha":
            return f"{self.name} α {alphas.alpha_text(self.before)} → {alphas.alpha_text(self.after)}"
        if self.kind == "retrained" and self.meaning:
            return f"{self.name} derived again ({self.before[:12]} → {self.after[:12]}) = {self.meaning}"
        if self.kind == "retrained" and self.cosine is not None:
            return f"{self.name} retrained (cos {round(self.cosine, 2) + 0.0:.2f} with before)"
        if self.kind == "retrained":
            return f"{self.name} retrained ({self.before[:12]} → {self.after[:12]})"
        if self.kind == "specification":
            return f"{self.name} implements another version of {self.after.rpartition('@')[0]}"
        if self.kind == FISHER:
            return f"{self.name} Fisher diagonal {short(self.before)} → {short(self.after)}"
        if self.kind == "renamed":
            return f"{self.before} renamed to {self.after}"
        if self.kind == "moved":
            return f"order of vectors: {', '.join(self.before)} → {', '.join(self.after)}"
        return f"{self.name}: {_value_text(self.before)} → {_value_text(self.after)}"

    def _of_readout(self) -> str:
        if self.kind == READOUT_ADDED:
            return f"+ readout {self.name}{f' ({self.meaning})' if self.meaning else ''}"
        if self.kind == READOUT_REMOVED:
            return f"- readout {self.name}"
        if self.cosine is not None:
            return f"readout {self.name} retrained (cos {round(self.cosine, 2) + 0.0:.2f} with before)"
        return f"readout {self.name} retrained ({self.before[:12]} → {self.after[:12]})"


def _value_text(value: Any) -> str:
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()  # as in TOML
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def changes(before: Recipe, after: Recipe, objects: ObjectStore | None = None) -> list[RecipeChange]:
    """Return every difference between two resolved recipes; empty if they mean the same.

    Args:
        objects: Where to look up the meanings of added vectors and readouts; None leaves them out.
    """
    differences = [*_settings(before, after), *_vectors(before, after), *_readouts(before, after)]
    return differences if objects is None else list(_explained(differences, before, after, objects))


def _explained(
    differences: list[RecipeChange], before: Recipe, after: Recipe, objects: ObjectStore
) -> Iterator[RecipeChange]:
    names = derived.names_in([after, before])
    for change in differences:
        if change.kind == READOUT_ADDED:
            yield replace(change, meaning=StoredReadout.get(objects, ReadoutId(change.after)).said)
            continue
        entry = after.entry(change.name) if change.kind in ("added", "retrained") else None
        yield replace(change, meaning=derived.meaning(objects, entry.id, names)) if entry else change


def _settings(before: Recipe, after: Recipe) -> Iterator[RecipeChange]:
    for name in ("base", "base_name", "method", "scale"):
        if getattr(before, name) != getattr(after, name):
            yield RecipeChange("setting", name.replace("_", " "), getattr(before, name), getattr(after, name))
    for name in sorted({*before.parameters, *after.parameters}):
        if before.parameters.get(name) != after.parameters.get(name):
            yield RecipeChange("setting", name, before.parameters.get(name), after.parameters.get(name))
    old, new = before.choices.slots(), after.choices.slots()
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield RecipeChange("setting", ".".join(path), old.get(path), new.get(path))


def _vectors(before: Recipe, after: Recipe) -> Iterator[RecipeChange]:
    old = {entry.name: entry for entry in before.vectors}
    new = {entry.name: entry for entry in after.vectors}
    renamed = _renamed(old, new)
    yield from (RecipeChange("renamed", name, name, other) for name, other in renamed.items())
    for name, entry in old.items():
        if name not in new and name not in renamed:
            yield RecipeChange("removed", name, entry.alpha, None)
    for name, entry in new.items():
        if name in renamed.values():
            continue
        if name not in old:
            yield RecipeChange("added", name, None, entry.alpha)
        else:
            yield from _entry(old[name], entry)
    kept_before = tuple(name for name in old if name in new)
    kept_after = tuple(name for name in new if name in old)
    if kept_before != kept_after:
        yield RecipeChange("moved", "vectors", kept_before, kept_after)


def _renamed(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, str]:
    """Pair the names that are gone with new ones of entries that are the same otherwise."""
    added = [entry for name, entry in new.items() if name not in old]
    renamed: dict[str, str] = {}
    for name, entry in old.items():
        same = (one.name for one in added if name not in new and replace(one, name=name) == entry)
        other = next((one for one in same if one not in renamed.values()), None)
        if other is not None:
            renamed[name] = other
    return renamed


def _readouts(before: Recipe, after: Recipe) -> Iterator[RecipeChange]:
    old, new = _by_name(before.readouts), _by_name(after.readouts)
    yield from (RecipeChange(READOUT_REMOVED, name, old[name], None) for name in old if name not in new)
    for name, now in new.items():
        if name not in old:
            yield RecipeChange(READOUT_ADDED, name, None, now)
        elif old[name] != now:
            yield RecipeChange(READOUT_RETRAINED, name, old[name], now)


def _by_name(entries: tuple[ReadoutEntry, ...]) -> dict[str, str]:
    return {entry.name: entry.id for entry in entries}


def _entry(old: Entry, new: Entry) -> Iterator[RecipeChange]:
    if old.id != new.id:
        yield RecipeChange("retrained", old.name, old.id, new.id)
    if old.alpha != new.alpha:
        yield RecipeChange("alpha", old.name, old.alpha, new.alpha)
    for key, before, after in (
        ("node", old.node, new.node), ("only", old.only, new.only), ("except", old.excepted, new.excepted)
    ):  # fmt: skip
        if before != after:
            yield RecipeChange("setting", f"{old.name} {key}", before, after)
    if old.fisher != new.fisher:
        yield RecipeChange(FISHER, old.name, old.fisher, new.fisher)
    if old.node == new.node and old.specification and new.specification not in (None, old.specification):
        pins = [f"{new.node}@{pin[:12]}" for pin in (old.specification, new.specification) if pin]
        yield RecipeChange("specification", old.name, pins[0], pins[-1])
    for key in sorted({*old.parameters, *new.parameters}):
        if old.parameters.get(key) != new.parameters.get(key):
            yield RecipeChange("setting", f"{old.name} {key}", old.parameters.get(key), new.parameters.get(key))
