"""Edit an inline table of ``persona.toml``: ``vectors = {a = {id = "3f2a"}}``."""

from __future__ import annotations

from typing import Any

import tomlkit

from persona.recipe.statements import splice, unusual
from persona.settings import Statement


def edit_inline(text: str, statement: Statement, path: tuple[str, ...], key: str, value: Any) -> str:
    """Set `key` in an inline table, or in the table at `path` inside it; None removes the key."""
    document: Any = tomlkit.parse(f"x = {text[statement.value]}")
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
    return splice(text, statement.value, tomlkit.dumps(document).removeprefix("x = "))
