"""Changing ``persona.toml`` the way a careful person would: comments, order and spacing stay.

An edit is a splice of the text, at statements (headers, and keys with their values) that a small scanner finds; only
inline tables are handed to tomlkit. What comes out is parsed and compared with the recipe that was asked for, so a
layout that this module does not understand is refused and never spoilt.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tomlkit

from persona.errors import RecipeError
from persona.ids import Id
from persona.recipe import alphas
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import FILE, parse

_HEAD = """\
# The recipe of this personality. Edit it freely: a value changed here is as good as a command.
# 'persona status' shows what changed, 'persona commit' records it, 'persona build' makes the model.
"""

_ONE_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_ONE_KEY}(?:[ \t]*\.[ \t]*{_ONE_KEY})*")
_SPACE = re.compile(r"[ \t\r\n]*")
_LAST_KEY = re.compile(rf"{_ONE_KEY}$")
_VALUE_PART = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|[^\"'#\[\]{}\n]+|.",
    re.DOTALL,
)


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
    recipe = parse(text)
    before = recipe.entry(entry.name)
    if before is None:
        wanted = replace(entry, id=entry.id[:12])
        return _checked(_append(text, entry), replace(recipe, vectors=(*recipe.vectors, wanted)))
    wanted = replace(
        entry,
        id=entry.id[:12],
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


def remove_vector(text: str, name: str) -> str:
    """``text`` without a vector; comments that stand after its last key stay."""
    recipe = parse(text)
    gone = _entry(recipe, name)
    return _checked(_remove(text, name), replace(recipe, vectors=tuple(e for e in recipe.vectors if e is not gone)))


def clear_merge(text: str) -> str:
    """``text`` without what it says in [merge]: a plain sum, with λ = 1."""
    before = parse(text)
    for where in reversed(list(_runs(_statements(text), ("merge",)))):
        text = _without_lines(text, where)
    return _checked(text, replace(before, method="linear", scale=1.0, parameters={}))


def set_merge(text: str, method: str, scale: float, parameters: Mapping[str, Any]) -> str:
    """``text`` with this and nothing else in [merge]; comments in it go. No vector may have parameters of its own."""
    text = clear_merge(text)
    wanted = replace(parse(text), method=method, scale=scale, parameters=dict(parameters))
    said = {"method": method, **({"scale": scale} if scale != 1 else {}), **parameters}
    if said == {"method": "linear"}:
        return text
    newline = _newline(text)
    lines = ["[merge]", *(f"{key} = {_said(value)}" for key, value in said.items())]
    at = next((one.start for one in _statements(text) if one.path[0] == "vectors"), None)
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
        raise _unusual()
    return text


def _unusual() -> RecipeError:
    return RecipeError(
        f"{FILE} is laid out in a way that cannot be edited without changing something else",
        "Write vectors as [vectors.NAME] tables, or make this change by hand and record it with 'persona commit'.",
    )


def _fields(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": entry.id[:12], "alpha": _toml_alpha(entry.alpha)}
    if entry.node is not None:
        fields["node"] = entry.node
    if entry.only:
        fields["only"] = list(entry.only)
    if entry.excepted:
        fields["except"] = list(entry.excepted)
    return fields | dict(entry.parameters)


def _toml_alpha(alpha: alphas.Alpha) -> Any:
    if not alphas.is_patterns(alpha):
        return list(alpha) if isinstance(alpha, tuple) else alpha
    table = tomlkit.inline_table()
    table.update(dict(alphas.encode(alpha)))
    return table


def _update(text: str, recipe: Recipe, before: Entry, after: Entry) -> str:
    old = _fields(before) | {"id": before.id}
    for key, value in (_fields(after) | {"id": after.id}).items():
        if old.get(key) != value:
            text = _set(text, after.name, key, value)
    vectors = tuple(after if entry is before else entry for entry in recipe.vectors)
    return _checked(text, replace(recipe, vectors=vectors))


@dataclass(frozen=True)
class _Statement:
    """``[path]``, or ``key = value``; ``start`` and ``stop`` are those of its lines."""

    path: tuple[str, ...]
    is_header: bool
    start: int
    key: str
    value: slice
    stop: int


def _statements(text: str) -> Iterator[_Statement]:
    """What ``text``, which is valid TOML, says line by line; blank lines and comments are left out."""
    section: tuple[str, ...] = ()
    at = 1 if text.startswith("\ufeff") else 0
    while at < len(text):
        start = at
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches anything
        start = max(start, text.rfind("\n", 0, at) + 1)
        if text[at : at + 1] in ("", "#"):
            at = _line_end(text, at)
            continue
        is_header = text[at] == "["
        match = _KEY.search(text, at) if is_header else _KEY.match(text, at)
        if match is None:
            raise _unusual()
        path = _path(match[0])
        if is_header:
            section, stop = path, _line_end(text, match.end())
            yield _Statement(path, True, start, match[0], slice(match.end(), match.end()), stop)
        else:
            value = _value(text, text.index("=", match.end()) + 1)
            stop = _line_end(text, value.stop)
            yield _Statement((*section, *path), False, start, match[0], value, stop)
        at = stop


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _path(key: str) -> tuple[str, ...]:
    """``vectors."a"`` as names."""
    table: Any = tomllib.loads(f"{key} = 0")
    names = []
    while isinstance(table, dict):
        [(name, table)] = table.items()
        names.append(name)
    return tuple(names)


def _value(text: str, start: int) -> slice:
    """Where the value is that begins at or after ``start``, without the spaces and the comment around it."""
    depth = 0
    at = stop = start
    while match := _VALUE_PART.match(text, at):
        part = match[0]
        if depth == 0 and (part == "\n" or part.startswith("#")):
            break
        depth += (part in "[{") - (part in "]}")
        at = match.end()
        if part.strip():
            stop = at
    raw = text[start:stop]
    return slice(start + len(raw) - len(raw.lstrip()), start + len(raw.rstrip()))


def _splice(text: str, where: slice, new: str) -> str:
    return text[: where.start] + new + text[where.stop :]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _said(value: Any) -> str:
    """A value as TOML writes it."""
    return str(tomlkit.item(value).as_string())


def _append(text: str, entry: Entry) -> str:
    """A table at the end; a row more where the vectors are an inline table."""
    for one in _statements(text):
        if one.path == ("vectors",) and not one.is_header:
            row = tomlkit.inline_table()
            row.update(_fields(entry))
            return _edit_inline(text, one, (), entry.name, row)
    newline = _newline(text)
    lines = [f"[vectors.{entry.name}]", *(f"{key} = {_said(value)}" for key, value in _fields(entry).items())]
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text and not text.endswith(("\n\n", "\n\r\n")) else ""
    return text + gap + "".join(line + newline for line in lines)


def _set(text: str, name: str, key: str, value: Any) -> str:
    """One key of one vector, where it stands or after the vector's other keys."""
    vector = ("vectors", name)
    path = (*vector, key)
    last: _Statement | None = None
    for one in _statements(text):
        if one.path == path and not one.is_header:
            return _splice(text, one.value, _said(value))
        if not one.is_header and one.path in (("vectors",), vector):
            return _edit_inline(text, one, path[len(one.path) : -1], key, tomlkit.item(value))
        if one.path[:2] == vector:
            last = one
    if last is None:
        raise _unusual()
    written = key if last.is_header else _LAST_KEY.sub(key, last.key)
    indent = re.match(r"[ \t]*", text[last.start :])
    line = f"{indent[0] if indent else ''}{written} = {_said(value)}{_newline(text)}"
    if not text.endswith("\n", last.start, last.stop):
        line = _newline(text) + line.removesuffix(_newline(text))
    return _splice(text, slice(last.stop, last.stop), line)


def _edit_inline(text: str, one: _Statement, path: tuple[str, ...], key: str, value: Any) -> str:
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
        raise _unusual() from None
    return _splice(text, one.value, tomlkit.dumps(document).removeprefix("x = "))


def _remove(text: str, name: str) -> str:
    vector = ("vectors", name)
    for one in _statements(text):
        if one.path == ("vectors",) and not one.is_header:
            return _edit_inline(text, one, (), name, None)
    for where in reversed(list(_runs(_statements(text), vector))):
        text = _without_lines(text, where)
    return text


def _runs(statements: Iterable[_Statement], vector: tuple[str, ...]) -> Iterator[slice]:
    """The lines of a vector, or a section: from each first statement of its to the last one before another's."""
    run: slice | None = None
    for one in statements:
        if one.path[: len(vector)] == vector:
            run = slice(run.start if run else one.start, one.stop)
        elif run:
            yield run
            run = None
    if run:
        yield run


def _without_lines(text: str, where: slice) -> str:
    """Take lines out, and of the blank lines around them those on one side."""
    before, after = text[: where.start], text[where.stop :]
    blank = re.match(r"(?:[ \t]*\r?\n)*", after)
    if not before or re.search(r"\n[ \t]*\r?\n$", before):
        after = after[blank.end() if blank else 0 :]
        if not after:
            before = re.sub(r"(?<=\n)[ \t]*\r?\n$", "", before)
    return before + after
