"""Change ``persona.toml`` to another recipe in as few places as possible: comments, order and spacing stay."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from persona.recipe.choosing import rewrite_choices
from persona.recipe.edit import (
    append_readout,
    append_vector,
    clear_merge,
    fields_of,
    set_key,
    take_out,
    unset_key,
)
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import parse
from persona.recipe.statements import append_lines, newline_of, runs, splice, statements, unusual


def rewrite(text: str, wanted: Recipe, borrow: str = "") -> str:
    """Return `text`, changed to mean `wanted`.

    Args:
        wanted: A resolved recipe. Its vectors must be in the order of `text`, new ones last.
        borrow: Text from which new tables are copied, comments included, if they mean the same there.

    Raises:
        RecipeError: the layout cannot be edited.
    """
    recipe = parse(text)
    for entry in recipe.vectors:
        if wanted.entry(entry.name) is None:
            text = take_out(text, ("vectors", entry.name))
    for readout in recipe.readouts:
        if wanted.readout(readout.name) is None:
            text = take_out(text, ("readouts", readout.name))
    text = rewrite_choices(_set_merge(text, recipe, wanted), recipe.choices, wanted.choices)
    for entry in wanted.vectors:
        before = recipe.entry(entry.name)
        text = _add(text, entry, borrow) if before is None else _update(text, before, entry)
    for readout in wanted.readouts:
        text = _put_readout(text, recipe.readout(readout.name), readout, borrow)
    return _checked(text, wanted)


def _put_readout(text: str, before: ReadoutEntry | None, after: ReadoutEntry, borrow: str) -> str:
    if before is not None:
        same = after.id.startswith(before.id)
        return text if same else set_key(text, ("readouts", after.name), "id", after.id[:12])
    lines = table_text(borrow, ("readouts", after.name)) if borrow else None
    there = parse(borrow).readout(after.name) if lines else None
    if lines is None or there is None or not after.id.startswith(there.id):
        return append_readout(text, after)
    return append_lines(text, lines)


def as_typed(typed: Recipe, resolved: Recipe) -> Recipe:
    """Return `typed` with its ids completed from `resolved`, where they match."""
    vectors = [_entry_as_typed(entry, resolved.entry(entry.name)) for entry in typed.vectors]
    known = {entry.name: entry.id for entry in resolved.readouts}
    readouts = [replace(e, id=_longer(e.id, known.get(e.name, ""))) for e in typed.readouts]
    return replace(typed, base=_longer(typed.base, resolved.base), vectors=tuple(vectors), readouts=tuple(readouts))


def _entry_as_typed(typed: Entry, resolved: Entry | None) -> Entry:
    if resolved is None:
        return typed
    fisher = _longer(typed.fisher, resolved.fisher or "") if typed.fisher else None
    return replace(typed, id=_longer(typed.id, resolved.id), fisher=fisher)


def _longer(typed: str, whole: str) -> str:
    return whole if whole.startswith(typed) else typed


def _checked(text: str, wanted: Recipe) -> str:
    if as_typed(parse(text), wanted) != wanted:
        raise unusual()
    return text


def _set_merge(text: str, before: Recipe, wanted: Recipe) -> str:
    old = merge_fields(before)
    new = merge_fields(wanted)
    if old and not new:
        return clear_merge(text)
    for key in old:
        if key not in new:
            text = unset_key(text, ("merge",), key)
    for key, value in new.items():
        if old.get(key) != value:
            text = set_key(_with_merge(text), ("merge",), key, value)
    return text


def merge_fields(recipe: Recipe) -> dict[str, Any]:
    """Return the keys and values that ``[merge]`` must have."""
    fields: dict[str, Any] = {} if recipe.method == "linear" else {"method": recipe.method}
    if recipe.scale != 1.0:
        fields["scale"] = recipe.scale
    return fields | dict(recipe.parameters)


def _with_merge(text: str) -> str:
    """Add a ``[merge]`` section after ``[base]``, unless there is one."""
    last = None
    for statement in statements(text):
        if statement.path[:1] == ("merge",):
            return text
        if statement.path[:1] == ("base",):
            last = statement
    if last is None:
        raise unusual()
    newline = newline_of(text)
    before = "" if text.endswith("\n", last.start, last.stop) else newline
    return splice(text, slice(last.stop, last.stop), f"{before}{newline}[merge]{newline}")


def _update(text: str, before: Entry, after: Entry) -> str:
    table = ("vectors", after.name)
    old, new = fields_of(before), fields_of(after)
    if after.id.startswith(before.id):
        new["id"] = old["id"]
    if before.fisher and after.fisher and after.fisher.startswith(before.fisher):
        new["fisher"] = old["fisher"]
    for key in old:
        if key not in new:
            text = unset_key(text, table, key)
    for key, value in new.items():
        if old.get(key) != value:
            text = set_key(text, table, key, value)
    return text


def _add(text: str, entry: Entry, borrow: str) -> str:
    """Append a vector: copied from `borrow` with its comments if it means the same there."""
    lines = table_text(borrow, ("vectors", entry.name)) if borrow else None
    there = parse(borrow).entry(entry.name) if lines else None
    if lines is None or there is None or _entry_as_typed(there, entry) != entry:
        return append_vector(text, entry)
    return append_lines(text, lines)


def table_text(text: str, path: tuple[str, str]) -> str | None:
    """Return a vector's or readout's table and the comment above it; None if it is not one table."""
    tables = list(runs(statements(text), path))
    if len(tables) != 1 or not text[tables[0].start :].lstrip().startswith("["):
        return None
    start = tables[0].start
    while above := re.search(r"(?:^|(?<=\n))[ \t]*#[^\n]*\n$", text[:start]):
        start = above.start()
    if start == 0:  # a comment at the top is about the whole file
        start = tables[0].start
    lines = text[start : tables[0].stop]
    return lines if lines.endswith("\n") else lines + "\n"
