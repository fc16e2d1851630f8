"""Changing ``persona.toml`` the way a careful person would: comments, order and spacing stay."""

from __future__ import annotations

from typing import Any

import tomlkit
from tomlkit.items import Table

from persona.ids import Id
from persona.recipe.model import Entry

_HEAD = """\
# The recipe of this personality. Edit it freely: a value changed here is as good as a command.
# 'persona status' shows what changed, 'persona commit' records it, 'persona build' makes the model.
"""


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


def put_vector(text: str, entry: Entry) -> str:
    """``text`` with ``entry`` added at the end, or brought up to date where it stands."""
    document = tomlkit.parse(text)
    vectors = document.get("vectors")
    if vectors is None:
        vectors = tomlkit.table(is_super_table=True)
        document.add("vectors", vectors)
    if entry.name in vectors:
        _update(vectors[entry.name], _fields(entry))
    else:
        _append(document, vectors, entry)
    return tomlkit.dumps(document)


def set_alpha(text: str, name: str, alpha: float) -> str:
    """``text`` with another alpha for a vector."""
    document: Any = tomlkit.parse(text)
    document["vectors"][name]["alpha"] = alpha
    return tomlkit.dumps(document)


def remove_vector(text: str, name: str) -> str:
    """``text`` without a vector."""
    document: Any = tomlkit.parse(text)
    document["vectors"].remove(name)
    if not document["vectors"]:
        document.remove("vectors")
    return tomlkit.dumps(document)


def _fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": entry.id[:12], "alpha": entry.alpha}
    if entry.node is not None:
        fields["node"] = entry.node
    if entry.only:
        fields["only"] = list(entry.only)
    if entry.excepted:
        fields["except"] = list(entry.excepted)
    return fields


def _update(table: Any, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if table.get(key) != value:
            table[key] = value


def _append(document: Any, vectors: Any, entry: Entry) -> None:
    table: Table = tomlkit.table()
    for key, value in _fields(entry).items():
        table.add(key, value)
    text = tomlkit.dumps(document)
    if text and not text.endswith("\n\n"):
        _last_table(document).add(tomlkit.nl())
    vectors.add(entry.name, table)


def _last_table(document: Any) -> Any:
    """The innermost table at the end of the document, where a blank line belongs."""
    container = document
    while True:
        tables = [value for value in container.values() if isinstance(value, Table)]
        if not tables:
            return container
        container = tables[-1]
