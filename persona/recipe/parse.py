"""``persona.toml`` → :class:`Recipe`. Nothing in the file is ignored: what is not understood is an error.

Every error names the file, the line and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from persona import methods
from persona.errors import RecipeError, UsageError, did_you_mean
from persona.methods.parts.parameters import Parameter, Value
from persona.recipe.alphas import Alpha
from persona.recipe.model import Entry, ReadoutEntry, Recipe

FILE = "persona.toml"

_MARK = "\ufeff"
"""The byte order mark that some editors put first; it says nothing in UTF-8."""

LARGEST = 1e9
"""Of an alpha or scale: two of them times any weight that occurs stay far below fp32's 3.4e38."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_ID = re.compile(r"[0-9a-f]{4,64}")
_CONFLICT = re.compile(r"<{7} |\|{7} |={7}$|>{7} ")
_TOP = ("base", "merge", "vectors", "readouts")
_BASE = ("name", "id")
_VECTOR = ("id", "alpha", "node", "only", "except", "fisher")
_READOUT = ("id",)


def checked_vector_name(name: str, what: str = "vector") -> str:
    """``name`` if it may name a vector, or a readout."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a {what}",
            "Give a name with --as NAME: up to 64 letters, digits, '-' and '_', and not '-' first.",
        )
    return name


def parse(text: str, where: str = FILE) -> Recipe:
    """The recipe that ``text`` says; ids are as typed. ``where`` names the text in errors."""
    text = text.removeprefix(_MARK)
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _not_toml(text, where, str(error)) from None
    except ValueError:  # Python reads no integers of more than 4300 digits
        raise _too_long(text, where) from None
    reader = _Reader(text, where)
    reader.only_keys(table, _TOP, ())
    base = reader.table(table, "base", ())
    reader.only_keys(base, _BASE, ("base",))
    method, scale, parameters = _parse_merge(reader, reader.table(table, "merge", (), optional=True))
    vectors = reader.table(table, "vectors", (), optional=True)
    readouts = reader.table(table, "readouts", (), optional=True)
    recipe = Recipe(
        base=reader.id(base, ("base", "id")),
        base_name=reader.string(base, ("base", "name")) or "",
        vectors=tuple(_parse_vector(reader, vectors, name, method, parameters) for name in vectors),
        method=method,
        scale=scale,
        parameters=parameters,
    )
    return recipe.with_readouts(_parse_readout(reader, readouts, name, vectors) for name in readouts)


def _not_toml(text: str, where: str, said: str) -> RecipeError:
    """The parser's words, with the line where all our errors have it."""
    if marks := marked_lines(text):
        raise RecipeError(
            f"{where}:{marks[0]}: a merge conflict is not settled",
            f"Choose between the lines of {'<' * 7} and {'>' * 7}, take the markers out, then: persona commit",
        )
    match = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", said)
    place, what = (f"{where}:{match[2]}", match[1]) if match else (where, said)
    return RecipeError(f"{place}: not TOML: {what}", "Mend the line, or bring back the last one: persona restore")


def marked_lines(text: str) -> list[int]:
    """The lines (from 1) that hold the markers of a merge conflict (see ``markers``)."""
    return [number for number, line in enumerate(text.splitlines(), 1) if _CONFLICT.match(line)]


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


def _parse_merge(reader: _Reader, merge: dict[str, Any]) -> tuple[str, float, dict[str, Value]]:
    known = (*methods.names(), *methods.ALIASES)
    said = reader.string(merge, ("merge", "method")) or "linear"
    if said not in known:
        hint = did_you_mean(said, known) or "See 'persona methods'."
        raise reader.error(("merge", "method"), f"unknown method '{said}'", hint)
    method = methods.ALIASES.get(said, said)
    declared = methods.load(method).PARAMETERS
    reader.only_keys(merge, ("method", "scale", *declared), ("merge",))
    scale = reader.number(merge, ("merge", "scale"), 1.0)
    parameters = _parse_parameters(reader, merge, ("merge",), declared)
    _check_together(reader, method, ("merge",), parameters)
    return method, scale, parameters


def _parse_parameters(
    reader: _Reader, table: dict[str, Any], path: Path, declared: Mapping[str, Parameter]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, parameter in declared.items():
        if name in table:
            try:
                found[name] = parameter.checked(table[name])
            except (ValueError, OverflowError, TypeError):
                what = f"{_shown(table[name])} is not {parameter.wanted}"
                raise reader.error((*path, name), what, parameter.summary) from None
    return found


def _check_together(reader: _Reader, method: str, path: Path, *given: Mapping[str, Value]) -> None:
    """Values that are each in their range may not fit each other."""
    module = methods.load(method)
    what = methods.complaint(module, methods.settings(module.PARAMETERS, *given))
    if what is not None:
        key = next((name for name in given[-1]), "method")
        raise reader.error((*path, key), what, f"See 'persona methods {method}'.")


def _parse_vector(
    reader: _Reader, vectors: dict[str, Any], name: str, method: str, common: Mapping[str, Value]
) -> Entry:
    path = ("vectors", name)
    if not _NAME.fullmatch(name):
        raise reader.error(path, "this cannot name a vector", "Use letters, digits, '-' and '_', 64 at most.")
    entry = reader.table(vectors, name, ("vectors",))
    own = {key: one for key, one in methods.load(method).PARAMETERS.items() if one.per_vector}
    reader.only_keys(entry, (*_VECTOR, *own), path)
    parameters = _parse_parameters(reader, entry, path, own)
    if parameters:
        _check_together(reader, method, path, common, parameters)
    return Entry(
        name=name,
        id=reader.id(entry, (*path, "id")),
        alpha=reader.alpha(entry, (*path, "alpha")),
        node=reader.string(entry, (*path, "node")),
        only=reader.patterns(entry, (*path, "only")),
        excepted=reader.patterns(entry, (*path, "except")),
        parameters=parameters,
        fisher=reader.id(entry, (*path, "fisher")) if "fisher" in entry else None,
    )


def _parse_readout(reader: _Reader, readouts: dict[str, Any], name: str, vectors: dict[str, Any]) -> ReadoutEntry:
    path = ("readouts", name)
    if not _NAME.fullmatch(name):
        raise reader.error(path, "this cannot name a readout", "Use letters, digits, '-' and '_', 64 at most.")
    if name in vectors:
        raise reader.error(path, "a vector has this name", "Give one of them another: a name means one thing.")
    entry = reader.table(readouts, name, ("readouts",))
    reader.only_keys(entry, _READOUT, path)
    return ReadoutEntry(name, reader.id(entry, (*path, "id")))


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

    def alpha(self, table: dict[str, Any], path: Path) -> Alpha:
        """A number; a list of them, along the depth; a table of them, by pattern."""
        value = table.get(path[-1])
        if isinstance(value, list):
            if not value:
                raise self.error(path, "an empty list", "Give numbers from the first block to the last: [0.2, 1.0].")
            return tuple(self.number({"alpha": one}, path, 1.0) for one in value)
        if isinstance(value, dict):
            if not value or not all(value):
                raise self.error(path, "an empty pattern", 'Give numbers by pattern: {"*.mlp.*" = 0.5, "*" = 1.0}.')
            return tuple((pattern, self.number({"alpha": one}, path, 1.0)) for pattern, one in value.items())
        return self.number(table, path, 1.0)

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
