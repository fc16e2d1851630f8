"""``persona.toml`` → :class:`Recipe`. Nothing in the file is ignored: what is not understood is an error.

Every error names the file, the line and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any

from persona import methods
from persona.errors import RecipeError, UsageError, did_you_mean
from persona.recipe.model import Entry, Parameter, Recipe

FILE = "persona.toml"

_MARK = "\ufeff"
"""The byte order mark that some editors put first; it says nothing in UTF-8."""

LARGEST = 1e9
"""Of an alpha or scale: two of them times any weight that occurs stay far below fp32's 3.4e38."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_ID = re.compile(r"[0-9a-f]{4,64}")
_TOP = ("base", "merge", "vectors")
_BASE = ("name", "id")
_VECTOR = ("id", "alpha", "node", "only", "except")


def checked_vector_name(name: str) -> str:
    """``name`` if it may name a vector."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a vector",
            "Give a name with --as NAME: up to 64 letters, digits, '-' and '_', and not '-' first.",
        )
    return name


def parse(text: str, where: str = FILE) -> Recipe:
    """The recipe that ``text`` says; ids are as typed. ``where`` names the text in errors."""
    text = text.removeprefix(_MARK)
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _not_toml(where, str(error)) from None
    except ValueError:  # Python reads no integers of more than 4300 digits
        raise _too_long(text, where) from None
    reader = _Reader(text, where)
    reader.only_keys(table, _TOP, ())
    base = reader.table(table, "base", ())
    reader.only_keys(base, _BASE, ("base",))
    method, scale, parameters = _parse_merge(reader, reader.table(table, "merge", (), optional=True))
    vectors = reader.table(table, "vectors", (), optional=True)
    return Recipe(
        base=reader.id(base, ("base", "id")),
        base_name=reader.string(base, ("base", "name")) or "",
        vectors=tuple(_parse_vector(reader, vectors, name) for name in vectors),
        method=method,
        scale=scale,
        parameters=parameters,
    )


def _not_toml(where: str, said: str) -> RecipeError:
    """The parser's words, with the line where all our errors have it."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", said)
    place, what = (f"{where}:{match[2]}", match[1]) if match else (where, said)
    return RecipeError(f"{place}: not TOML: {what}", "Mend the line, or bring back the last one: persona restore")


def _too_long(text: str, where: str) -> RecipeError:
    match = re.search(r"^(.*?)[+-]?\d[\d_]{4299,}", text, re.MULTILINE)
    place = f"{where}:{text.count(chr(10), 0, match.start()) + 1}" if match else where
    key = match[1].partition("=")[0].strip(" \t\"'") if match else ""
    return RecipeError(
        f"{place}: {f'{key}: ' if key else ''}an integer of thousands of digits", "Give a finite number."
    )


def _shown(value: Any) -> str:
    """A value in an error, in a few words."""
    try:
        text = repr(value)
    except ValueError:  # an integer that is too long to be printed
        return "an integer of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _parse_merge(reader: _Reader, merge: dict[str, Any]) -> tuple[str, float, dict[str, Parameter]]:
    method = reader.string(merge, ("merge", "method")) or "linear"
    if method not in methods.names():
        raise reader.error(("merge", "method"), f"unknown method '{method}'", did_you_mean(method, methods.names()))
    declared = methods.load(method).PARAMETERS
    reader.only_keys(merge, ("method", "scale", *declared), ("merge",))
    scale = reader.number(merge, ("merge", "scale"), 1.0)
    parameters: dict[str, Parameter] = {}
    for name, parameter in declared.items():
        if name in merge:
            try:
                parameters[name] = parameter.checked(merge[name])
            except (ValueError, OverflowError):
                what = f"{_shown(merge[name])} is not a number between {parameter.low} and {parameter.high}"
                raise reader.error(("merge", name), what, parameter.summary) from None
    return method, scale, parameters


def _parse_vector(reader: _Reader, vectors: dict[str, Any], name: str) -> Entry:
    path = ("vectors", name)
    if not _NAME.fullmatch(name):
        raise reader.error(path, "this cannot name a vector", "Use letters, digits, '-' and '_', 64 at most.")
    entry = reader.table(vectors, name, ("vectors",))
    reader.only_keys(entry, _VECTOR, path)
    return Entry(
        name=name,
        id=reader.id(entry, (*path, "id")),
        alpha=reader.number(entry, (*path, "alpha"), 1.0),
        node=reader.string(entry, (*path, "node")),
        only=reader.patterns(entry, (*path, "only")),
        excepted=reader.patterns(entry, (*path, "except")),
    )


Path = tuple[str, ...]


class _Reader:
    """Takes typed values out of parsed TOML and says where they stand when they are wrong."""

    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where

    def error(self, path: Path, what: str, hint: str) -> RecipeError:
        line = find_line(self._text, path)
        place = f"{self._where}:{line}" if line else self._where
        return RecipeError(f"{place}: {'.'.join(path)}: {what}", hint)

    def only_keys(self, table: dict[str, Any], known: tuple[str, ...], path: Path) -> None:
        for key in table:
            if key not in known:
                raise self.error((*path, key), "unknown key", did_you_mean(key, known))

    def table(self, parent: dict[str, Any], key: str, path: Path, *, optional: bool = False) -> dict[str, Any]:
        if key not in parent and optional:
            return {}
        value = parent.get(key)
        if not isinstance(value, dict):
            what = "is missing" if value is None else "must be a table"
            raise self.error((*path, key), what, f"Write it as [{'.'.join((*path, key))}] and its keys below.")
        return value

    def _get(self, table: dict[str, Any], path: Path, ok: Callable[[Any], bool], wanted: str) -> Any:
        value = table.get(path[-1])
        if value is not None and not ok(value):
            raise self.error(path, f"{_shown(value)} is not {wanted}", f"Give {path[-1]} {wanted}.")
        return value

    def string(self, table: dict[str, Any], path: Path) -> str | None:
        value = self._get(table, path, lambda v: isinstance(v, str), "a string in quotes")
        return None if value is None else str(value)

    def number(self, table: dict[str, Any], path: Path, default: float) -> float:
        def ok(value: Any) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and _is_sane(value)

        value = self._get(table, path, ok, f"a finite number of at most {LARGEST:.0e}")
        return default if value is None else float(value)

    def id(self, table: dict[str, Any], path: Path) -> str:
        value = self.string(table, path)
        if value is None:
            raise self.error(path, "is missing", "Give the id that 'persona vectors' or 'persona log' shows.")
        if not _ID.fullmatch(value):
            raise self.error(path, f"{_shown(value)} is not an id", "An id is 4 to 64 digits of 0-9 and a-f.")
        return value

    def patterns(self, table: dict[str, Any], path: Path) -> tuple[str, ...]:
        def ok(value: Any) -> bool:
            return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)

        return tuple(self._get(table, path, ok, 'a list of patterns, such as ["*.mlp.*"]') or ())


def _is_sane(value: float) -> bool:
    """Whether an alpha or scale is one that cannot make infinities of plausible weights in fp32."""
    return abs(value) <= LARGEST  # false for NaN; an integer of any length can be compared


def find_line(text: str, path: Path) -> int | None:
    """The line (from 1) of a table or key, for error messages; None if the layout is an unusual one."""
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.removeprefix(_MARK).splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            section = tuple(part.strip(" \"'") for part in stripped.strip("[]").split("#")[0].strip(" ]").split("."))
            if section == path:
                return number
        elif section == path[:-1] and re.match(rf"[\"']?{re.escape(path[-1])}[\"']?\s*=", stripped):
            return number
    return None
