"""Edit ``persona.toml`` and keep its comments, order and spacing.

An edit splices the text at the statements that a small scanner finds; only inline tables are left to tomlkit. The
result is parsed and compared with the wanted recipe, so a layout that this module does not understand raises an error
and is never damaged.
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
from persona.recipe.choosing import rewrite_choices
from persona.recipe.inline import edit_inline
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import FILE, parse
from persona.recipe.statements import (
    append_lines,
    newline_of,
    runs,
    splice,
    statements,
    toml_text,
    unusual,
    without_lines,
)
from persona.settings import LAST_KEY, Statement

_HEAD = """\
# The recipe of this personality. Edit it by hand or with commands.
# 'persona status' shows changes, 'persona commit' records them, 'persona build' makes the model.
"""

_BESIDE = re.compile(r"([^#]*?)[ \t]*(?:#[ \t]*=[^\n]*?)?(\r?\n|)")
"""A header, and the comment that says what a derived vector is. Does not match quoted names with a #."""


def new_text(base_name: str, base: Id) -> str:
    """Return the recipe of a new repository."""
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
    """Add a vector at the end, or update it in place.

    Args:
        comment: Comment beside the name, beginning with "="; replaces the one of a previous vector of this name.

    Raises:
        UsageError: a readout has this name.
        RecipeError: the layout cannot be edited.
    """
    recipe = parse(text)
    before = recipe.entry(entry.name)
    if recipe.readout(entry.name) is not None:
        raise UsageError(f"there is a readout '{entry.name}' already", "Give the vector another name.")
    if before is None:
        wanted = replace(entry, id=entry.id[:12], fisher=_short(entry.fisher))
        text = _noted(append_vector(text, entry), entry.name, comment)
        return checked(text, replace(recipe, vectors=(*recipe.vectors, wanted)))
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
    """Change the alpha of a vector."""
    recipe = parse(text)
    before = _entry(recipe, name)
    return _update(text, recipe, before, replace(before, alpha=alpha))


def set_node(text: str, name: str, node: str | None) -> str:
    """Change the memory-graph node of a vector; None removes it."""
    recipe = parse(text)
    before = _entry(recipe, name)
    if node is not None:
        return _update(text, recipe, before, replace(before, node=node))
    vectors = tuple(replace(entry, node=None) if entry is before else entry for entry in recipe.vectors)
    return checked(unset_key(text, ("vectors", name), "node"), replace(recipe, vectors=vectors))


def set_fisher(text: str, name: str, fisher: Id) -> str:
    """Set the Fisher diagonal of a vector."""
    recipe = parse(text)
    before = _entry(recipe, name)
    return _update(text, recipe, before, replace(before, fisher=fisher.short))


def remove_vector(text: str, name: str) -> str:
    """Remove a vector, and the choices of files and settings that name it; comments after its last key stay."""
    recipe = parse(text)
    gone = _entry(recipe, name)
    choices = recipe.choices.without(name)
    text = rewrite_choices(take_out(text, ("vectors", name)), recipe.choices, choices)
    left = tuple(entry for entry in recipe.vectors if entry is not gone)
    return checked(text, replace(recipe, vectors=left, choices=choices))


def put_readout(text: str, entry: ReadoutEntry) -> str:
    """Add a readout at the end, or update it in place.

    Raises:
        UsageError: a vector has this name.
        RecipeError: the layout cannot be edited.
    """
    recipe = parse(text)
    check_no_vector(recipe, entry.name)
    wanted = ReadoutEntry(entry.name, entry.id[:12])
    others = [readout for readout in recipe.readouts if readout.name != entry.name]
    if len(others) == len(recipe.readouts):
        text = append_readout(text, wanted)
    else:
        text = set_key(text, ("readouts", entry.name), "id", wanted.id)
    return checked(text, recipe.with_readouts([*others, wanted]))


def check_no_vector(recipe: Recipe, name: str) -> None:
    """Raise UsageError if a vector has this name."""
    if recipe.entry(name) is not None:
        raise UsageError(f"there is a vector '{name}' already", "Give the readout another name: --as NAME.")


def remove_readout(text: str, name: str) -> str:
    """Remove a readout; comments after its key stay."""
    recipe = parse(text)
    left = [readout for readout in recipe.readouts if readout.name != name]
    return checked(take_out(text, ("readouts", name)), recipe.with_readouts(left))


def clear_merge(text: str) -> str:
    """Remove [merge]: the result is a plain sum with scale 1."""
    before = parse(text)
    for where in reversed(list(runs(statements(text), ("merge",)))):
        text = without_lines(text, where)
    return checked(text, replace(before, method="linear", scale=1.0, parameters={}))


def set_merge(text: str, method: str, scale: float, parameters: Mapping[str, Any]) -> str:
    """Replace [merge], comments included. No vector may have parameters of its own."""
    text = clear_merge(text)
    wanted = replace(parse(text), method=method, scale=scale, parameters=dict(parameters))
    fields = {"method": method, **({"scale": scale} if scale != 1 else {}), **parameters}
    if fields == {"method": "linear"}:
        return text
    newline = newline_of(text)
    lines = ["[merge]", *(f"{key} = {toml_text(value)}" for key, value in fields.items())]
    block = "".join(line + newline for line in lines)
    at = next((statement.start for statement in statements(text) if statement.path[0] == "vectors"), None)
    if at is None:
        return checked(append_lines(text, block), wanted)
    return checked(text[:at] + block + newline + text[at:], wanted)


def _entry(recipe: Recipe, name: str) -> Entry:
    entry = recipe.entry(name)
    if entry is None:
        raise RecipeError(f"{FILE}: no vector '{name}'", "See 'persona vectors'.")
    return entry


def checked(text: str, wanted: Recipe) -> str:
    """Return `text` if it means `wanted`; raise if the edit did something else."""
    try:
        good = parse(text) == wanted
    except RecipeError:
        good = False
    if not good:
        raise unusual()
    return text


def fields_of(entry: Entry) -> dict[str, Any]:
    """Return the keys and values of a vector's table."""
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
    """Return an alpha in a form that tomlkit can write."""
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
    return checked(text, replace(recipe, vectors=vectors))


def append_vector(text: str, entry: Entry) -> str:
    """Append a table, or a row if the vectors are an inline table; does not check the result."""
    return _append(text, ("vectors", entry.name), fields_of(entry))


def append_readout(text: str, entry: ReadoutEntry) -> str:
    """Append a readout, as :func:`append_vector` does a vector."""
    return _append(text, ("readouts", entry.name), {"id": entry.id[:12]})


def _append(text: str, path: tuple[str, str], fields: Mapping[str, Any]) -> str:
    for statement in statements(text):
        if statement.path == path[:1] and not statement.is_header:
            row = tomlkit.inline_table()
            row.update(fields)
            return edit_inline(text, statement, (), path[1], row)
    lines = [f"[{'.'.join(path)}]", *(f"{key} = {toml_text(value)}" for key, value in fields.items())]
    return append_lines(text, "".join(f"{line}\n" for line in lines))


def _noted(text: str, name: str, comment: str) -> str:
    """Put the comment of a derived vector beside its header; other comments stay."""
    for statement in statements(text):
        if statement.path == ("vectors", name) and statement.is_header:
            match = _BESIDE.fullmatch(text[statement.start : statement.stop])
            if match is not None:
                line = f"{match[1]}{f'  # {comment}' if comment else ''}{match[2]}"
                return splice(text, slice(statement.start, statement.stop), line)
    return text


def set_key(text: str, table: tuple[str, ...], key: str, value: Any) -> str:
    """Set a key of a table in place, or after its other keys; does not check the result."""
    path = (*table, key)
    last: Statement | None = None
    for statement in statements(text):
        if statement.path == path and not statement.is_header:
            return splice(text, statement.value, toml_text(value))
        if _holds(statement, table):
            return edit_inline(text, statement, path[len(statement.path) : -1], key, tomlkit.item(value))
        if statement.path[: len(table)] == table:
            last = statement
    if last is None:
        raise unusual()
    written = key if last.is_header else LAST_KEY.sub(key, last.key)
    indent = re.match(r"[ \t]*", text[last.start :])
    line = f"{indent[0] if indent else ''}{written} = {toml_text(value)}{newline_of(text)}"
    if not text.endswith("\n", last.start, last.stop):
        line = newline_of(text) + line.removesuffix(newline_of(text))
    return splice(text, slice(last.stop, last.stop), line)


def _holds(statement: Statement, table: tuple[str, ...]) -> bool:
    """Return whether a statement's value is an inline table that is, or holds, `table`."""
    return not statement.is_header and bool(statement.path) and statement.path == table[: len(statement.path)]


def unset_key(text: str, table: tuple[str, ...], key: str) -> str:
    """Remove a key of a table; does not check the result."""
    path = (*table, key)
    for statement in statements(text):
        if statement.path == path and not statement.is_header:
            return splice(text, slice(statement.start, statement.stop), "")
        if _holds(statement, table):
            return edit_inline(text, statement, path[len(statement.path) : -1], key, None)
    return text


def take_out(text: str, path: tuple[str, str]) -> str:
    """Remove a vector or readout; does not check the result."""
    for statement in statements(text):
        if statement.path == path[:1] and not statement.is_header:
            return edit_inline(text, statement, (), path[1], None)
    for where in reversed(list(runs(statements(text), path))):
        text = without_lines(text, where)
    return text
