"""Write the tables ``[files]`` and ``[config]`` of ``persona.toml``: comments, order and spacing stay."""

from __future__ import annotations

import json
import re
from typing import Any

import tomlkit

from persona.recipe.choices import FILES, SETTINGS, Choices, Path
from persona.recipe.inline import edit_inline
from persona.recipe.statements import append_lines, newline_of, runs, splice, statements, toml_text, without_lines
from persona.settings import Statement

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def rewrite_choices(text: str, before: Choices, after: Choices) -> str:
    """Change the choices of ``text`` from ``before`` to ``after``; does not check the result."""
    old, new = before.slots(), after.slots()
    for path in old:
        if path not in new:
            text = _unset(text, path)
    for path, value in new.items():
        if path not in old or old[path] != value:
            text = _set(text, path, value)
    for table in (FILES, SETTINGS):
        if all(statement.is_header for statement in statements(text) if statement.path[:1] == (table,)):
            for where in reversed(list(runs(statements(text), (table,)))):
                text = without_lines(text, where)
    return text


def line_of(text: str, path: Path) -> tuple[slice, str]:
    """Where the line of a choice is, or where it would go, and what it has before the equals sign."""
    place: tuple[slice, str] | None = None
    section: Path = ()
    depth = 0
    for statement in statements(text):
        if statement.is_header:
            section = statement.path
        elif statement.path == path:
            return slice(statement.start, statement.stop), statement.key
        if section == path[: len(section)] and len(section) >= max(depth, 1):
            depth = len(section)
            place = slice(statement.stop, statement.stop), _key(path[depth:])
    end = slice(len(text), len(text))
    return place or (end, f"[{path[0]}]{newline_of(text)}{_key(path[1:])}")


def _key(path: Path) -> str:
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)


def _holder(text: str, path: Path) -> Statement | None:
    """The statement whose value is an inline table that holds a key."""
    for statement in statements(text):
        if not statement.is_header and statement.path == path[: len(statement.path)] and statement.path != path:
            return statement
    return None


def _unset(text: str, path: Path) -> str:
    holder = _holder(text, path)
    if holder is not None:
        return edit_inline(text, holder, path[len(holder.path) : -1], path[-1], None)
    where, _ = line_of(text, path)
    return splice(text, where, "")


def _set(text: str, path: Path, value: Any) -> str:
    holder = _holder(text, path)
    if holder is not None:
        return edit_inline(text, holder, path[len(holder.path) : -1], path[-1], tomlkit.item(value))
    where, key = line_of(text, path)
    for statement in statements(text):
        if statement.path == path and not statement.is_header:
            return splice(text, statement.value, toml_text(value))
    newline = newline_of(text)
    line = f"{key} = {toml_text(value)}{newline}"
    if key.startswith("["):
        return append_lines(text, line)
    return splice(text, where, line if text.endswith("\n", 0, where.start) else newline + line)
