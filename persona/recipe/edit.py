"""Changing ``persona.toml`` the way a careful person would: comments, order and spacing stay.

An edit is a splice of the text, at statements (headers, and keys with their values) that a small scanner finds; only
inline tables are handed to tomlkit. What comes out is parsed and compared with the recipe that was asked for, so a
layout that this module does not understand is refused and never spoilt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tomlkit

from persona.errors import RecipeError, UsageError
from persona.ids import SHORT, Id
from persona.recipe import alphas
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import FILE, parse
from persona.recipe.statements import (
    newline_of,
    runs,
    said,
    splice,
    statements,
    unusual,
    without_lines,
)
from persona.settings import LAST_KEY, Statement

_HEAD = """\
# The recipe of this personality. Edit it freely: a value changed here is as good as a command.
# 'persona status' shows what changed, 'persona commit' records it, 'persona build' makes the model.
"""

_BESIDE = re.compile(r"([^#]*?)[ \t]*(?:#[ \t]*=[^\n]*?)?(\r?\n|)")
"""A header with the comment that says what a derived vector is, or none; a name in quotes may hold no #."""


def new_text(base_name: str, base: Id) -> str:
    """The recipe that a new repository begins with."""
    document = tomlkit.document()
    for line in _HEAD.splitlines():
        document.add(tomlkit.comment(line.removeprefix("# ")))
    document.add(tomlkit.nl())
    table = tomlkit.table()
    table.add("name", base_name)
    table.add("id", base.short)
    document.add("base", table)
    return tomlkit.dumps(document)


def put_vector(text: str, entry: Entry, comment: str = "") -> str:
    """``text`` with ``entry`` added at the end, or brought up to date where it stands.

    ``comment``, which begins with "=", stands beside its name; one that another vector of this name had goes.
    """
    recipe = parse(text)
    before = recipe.entry(entry.name)
    if recipe.readout(entry.name) is not None:
        raise UsageError(f"there is a readout '{entry.name}' already", "Give the vector another name.")
    if before is None:
        wanted = replace(entry, id=entry.id[:12], fisher=_short(entry.fisher))
        text = _noted(append_vector(text, entry), entry.name, comment)
        return _checked(text, replace(recipe, vectors=(*recipe.vectors, wanted)))
    same = entry.id.startswith(before.id)
    if not same:
        text = _noted(text, entry.name, comment)
    wanted = replace(
        entry,
        id=entry.id[:12],
        fisher=_short(entry.fisher) or (before.fisher if same else None),
        node=before.node if entry.node is None else entry.node,
        only=entry.only or before.only,
        excepted=entry.excepted or before.excepted,
        parameters=entry.parameters or before.parameters,
    )
    return _update(text, recipe, before, wanted)


def set_alpha(text: str, name: str, alpha: alphas.Alpha) -> str:
    """``text`` with another alpha for a vector."""
    recipe = parse(text)
    before = _entry(recipe, name)
    return _update(text, recipe, before, replace(before, alpha=alpha))


def set_node(text: str, name: str, node: str | None) -> str:
    """``text`` with another memory-graph node for a vector, or with none."""
    recipe = parse(text)
    before = _entry(recipe, name)
    if node is not None:
        return _update(text, recipe, before, replace(before, node=node))
    vectors = tuple(replace(entry, node=None) if entry is before else entry for entry in recipe.vectors)
    return _checked(unset_key(text, ("vectors", name), "node"), replace(recipe, vectors=vectors))


def set_fisher(text: str, name: str, fisher: Id) -> str:
    """``text`` with the Fisher diagonal that was estimated for a vector."""
    recipe = parse(text)
    before = _entry(recipe, name)
    return _update(text, recipe, before, replace(before, fisher=fisher.short))


def remove_vector(text: str, name: str) -> str:
    """``text`` without a vector; comments that stand after its last key stay."""
    recipe = parse(text)
    gone = _entry(recipe, name)
    text = take_out(text, ("vectors", name))
    return _checked(text, replace(recipe, vectors=tuple(e for e in recipe.vectors if e is not gone)))


def put_readout(text: str, entry: ReadoutEntry) -> str:
    """``text`` with a readout added at the end, or brought up to date where it stands."""
    recipe = parse(text)
    check_no_vector(recipe, entry.name)
    wanted = ReadoutEntry(entry.name, entry.id[:12])
    others = [one for one in recipe.readouts if one.name != entry.name]
    if len(others) == len(recipe.readouts):
        text = append_readout(text, wanted)
    else:
        text = set_key(text, ("readouts", entry.name), "id", wanted.id)
    return _checked(text, recipe.with_readouts([*others, wanted]))


def check_no_vector(recipe: Recipe, name: str) -> None:
    """Raise unless a readout may have the name."""
    if recipe.entry(name) is not None:
        raise UsageError(f"there is a vector '{name}' already", "Give the readout another name: --as NAME.")


def remove_readout(text: str, name: str) -> str:
    """``text`` without a readout; comments that stand after its key stay."""
    recipe = parse(text)
    left = [one for one in recipe.readouts if one.name != name]
    return _checked(take_out(text, ("readouts", name)), recipe.with_readouts(left))


def clear_merge(text: str) -> str:
    """``text`` without what it says in [merge]: a plain sum, with λ = 1."""
    before = parse(text)
    for where in reversed(list(runs(statements(text), ("merge",)))):
        text = without_lines(text, where)
    return _checked(text, replace(before, method="linear", scale=1.0, parameters={}))


def set_merge(text: str, method: str, scale: float, parameters: Mapping[str, Any]) -> str:
    """``text`` with this and nothing else in [merge]; comments in it go. No vector may have parameters of its own."""
    text = clear_merge(text)
    wanted = replace(parse(text), method=method, scale=scale, parameters=dict(parameters))
    fields = {"method": method, **({"scale": scale} if scale != 1 else {}), **parameters}
    if fields == {"method": "linear"}:
        return text
    newline = newline_of(text)
    lines = ["[merge]", *(f"{key} = {said(value)}" for key, value in fields.items())]
    at = next((one.start for one in statements(text) if one.path[0] == "vectors"), None)
    if at is not None:
        block = "".join(line + newline for line in lines)
        return _checked(text[:at] + block + newline + text[at:], wanted)
    end = "" if text.endswith("\n") or not text else newline
    return _checked(text + end + newline + "".join(line + newline for line in lines), wanted)


def _entry(recipe: Recipe, name: str) -> Entry:
    entry = recipe.entry(name)
    if entry is None:
        raise RecipeError(f"{FILE}: there is no vector '{name}'", "See 'persona vectors'.")
    return entry


def _checked(text: str, wanted: Recipe) -> str:
    """``text`` if it says exactly what it should."""
    try:
        good = parse(text) == wanted
    except RecipeError:
        good = False
    if not good:
        raise unusual()
    return text


def fields_of(entry: Entry) -> dict[str, Any]:
    """What a vector's table says."""
    fields: dict[str, Any] = {"id": entry.id[:12], "alpha": toml_alpha(entry.alpha)}
    if entry.node is not None:
        fields["node"] = entry.node
    if entry.only:
        fields["only"] = list(entry.only)
    if entry.excepted:
        fields["except"] = list(entry.excepted)
    fields |= {"fisher": _short(entry.fisher)} if entry.fisher else {}
    return fields | dict(entry.parameters)


def _short(name: str | None) -> str | None:
    return name[:SHORT] if name else None


def toml_alpha(alpha: alphas.Alpha) -> Any:
    """An alpha as tomlkit writes it."""
    if not alphas.is_patterns(alpha):
        return list(alpha) if isinstance(alpha, tuple) else alpha
    table = tomlkit.inline_table()
    table.update(dict(alphas.encode(alpha)))
    return table


def _update(text: str, recipe: Recipe, before: Entry, after: Entry) -> str:
    old, new = fields_of(before) | {"id": before.id}, fields_of(after) | {"id": after.id}
    if before.fisher and not after.fisher:
        text = unset_key(text, ("vectors", after.name), "fisher")
    for key, value in new.items():
        if old.get(key) != value:
            text = set_key(text, ("vectors", after.name), key, value)
    vectors = tuple(after if entry is before else entry for entry in recipe.vectors)
    return _checked(text, replace(recipe, vectors=vectors))


def append_vector(text: str, entry: Entry) -> str:
    """A table at the end; a row more where the vectors are an inline table; unchecked."""
    return _append(text, ("vectors", entry.name), fields_of(entry))


def append_readout(text: str, entry: ReadoutEntry) -> str:
    """As :func:`append_vector`, of a readout; unchecked."""
    return _append(text, ("readouts", entry.name), {"id": entry.id[:12]})


def _append(text: str, path: tuple[str, str], fields: Mapping[str, Any]) -> str:
    for one in statements(text):
        if one.path == path[:1] and not one.is_header:
            row = tomlkit.inline_table()
            row.update(fields)
            return edit_inline(text, one, (), path[1], row)
    newline = newline_of(text)
    lines = [f"[{'.'.join(path)}]", *(f"{key} = {said(value)}" for key, value in fields.items())]
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text and not text.endswith(("\n\n", "\n\r\n")) else ""
    return text + gap + "".join(line + newline for line in lines)


def _noted(text: str, name: str, comment: str) -> str:
    """What a derived vector is, behind its header; a comment of someone's own stays as it is."""
    for one in statements(text):
        if one.path == ("vectors", name) and one.is_header:
            match = _BESIDE.fullmatch(text[one.start : one.stop])
            if match is not None:
                line = f"{match[1]}{f'  # {comment}' if comment else ''}{match[2]}"
                return splice(text, slice(one.start, one.stop), line)
    return text


def set_key(text: str, table: tuple[str, ...], key: str, value: Any) -> str:
    """One key of a table, such as a vector's, where it stands or after the table's other keys; unchecked."""
    path = (*table, key)
    last: Statement | None = None
    for one in statements(text):
        if one.path == path and not one.is_header:
            return splice(text, one.value, said(value))
        if not one.is_header and one.path and one.path == table[: len(one.path)]:
            return edit_inline(text, one, path[len(one.path) : -1], key, tomlkit.item(value))
        if one.path[: len(table)] == table:
            last = one
    if last is None:
        raise unusual()
    written = key if last.is_header else LAST_KEY.sub(key, last.key)
    indent = re.match(r"[ \t]*", text[last.start :])
    line = f"{indent[0] if indent else ''}{written} = {said(value)}{newline_of(text)}"
    if not text.endswith("\n", last.start, last.stop):
        line = newline_of(text) + line.removesuffix(newline_of(text))
    return splice(text, slice(last.stop, last.stop), line)


def edit_inline(text: str, one: Statement, path: tuple[str, ...], key: str, value: Any) -> str:
    """Give ``key`` of the inline table (or of the one at ``path`` in it) another value; None takes it out."""
    document: Any = tomlkit.parse(f"x = {text[one.value]}")
    table = document["x"]
    try:
        for name in path:
            table = table[name]
        if value is None:
            table.remove(key)
        else:
            table[key] = value
    except (KeyError, TypeError, ValueError, AttributeError):
        raise unusual() from None
    return splice(text, one.value, tomlkit.dumps(document).removeprefix("x = "))


def unset_key(text: str, table: tuple[str, ...], key: str) -> str:
    """``text`` without one key of a table; unchecked."""
    path = (*table, key)
    for one in statements(text):
        if one.path == path and not one.is_header:
            return splice(text, slice(one.start, one.stop), "")
        if not one.is_header and one.path and one.path == table[: len(one.path)]:
            return edit_inline(text, one, path[len(one.path) : -1], key, None)
    return text


def take_out(text: str, path: tuple[str, str]) -> str:
    """``text`` without a vector or a readout; unchecked."""
    for one in statements(text):
        if one.path == path[:1] and not one.is_header:
            return edit_inline(text, one, (), path[1], None)
    for where in reversed(list(runs(statements(text), path))):
        text = without_lines(text, where)
    return text
