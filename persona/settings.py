"""Read tables of settings (``persona.toml``, suites, presets, mergekit's YAML) and say exactly what is wrong in them.

A :class:`Table` knows its file and the keys that lead to it, so every error reads alike: ``persona.toml:12:
vectors.a.alpha: 'x' is not a number …``. :func:`find_line` finds the line of a key in TOML.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from persona.errors import PersonaError, UsageError, did_you_mean

BOM = "\ufeff"
"""The byte order mark that some editors write first; it means nothing in UTF-8."""

Path = tuple[str | int, ...]
"""Keys from the top of a file to a value; a number counts tables of a list from 0."""

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
D = TypeVar("D")


class Spec(Protocol[T_co]):
    """What a setting may be."""

    @property
    def default(self) -> T_co:
        """The value when the setting is not given."""

    @property
    def summary(self) -> str:
        """What the setting does, in one line."""

    @property
    def wanted(self) -> str:
        """What is accepted, as an error says it: "a number from 0 to 1"."""

    def checked(self, value: Any) -> T_co:
        """Return `value` in the setting's type; raise ValueError, with `wanted`, if it is not accepted."""


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`; with `beyond`, `low` itself is excluded."""

    default: float
    low: float
    high: float
    summary: str = ""
    beyond: bool = False
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What is accepted, as an error says it."""
        low, to = ("above", ", at most") if self.beyond else ("from", " to")
        return f"a number {low} {self.low:g}" + (f"{to} {self.high:g}" if math.isfinite(self.high) else "")

    def checked(self, value: Any) -> float:
        """Return `value` as a float; raise ValueError if it is not accepted."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or (self.beyond and value == self.low):
            raise ValueError(self.wanted)
        if not math.isfinite(value):
            raise ValueError(self.wanted)
        return float(value)


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`."""

    default: int
    low: int
    high: int
    summary: str = ""
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What is accepted, as an error says it."""
        return f"a whole number from {self.low} to {self.high}"

    def checked(self, value: Any) -> int:
        """Return `value`; raise ValueError if it is not accepted."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(self.wanted)
        return value


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    default: str
    options: tuple[str, ...]
    summary: str = ""
    per_vector: bool = False

    @property
    def wanted(self) -> str:
        """What is accepted, as an error says it."""
        return "one of " + ", ".join(f'"{option}"' for option in self.options)

    def checked(self, value: Any) -> str:
        """Return `value`; raise ValueError if it is not accepted."""
        if value not in self.options:
            raise ValueError(self.wanted)
        return str(value)


@dataclass(frozen=True)
class Table:
    """A table of settings, and where it is.

    Attributes:
        values: The table as the parser returned it.
        file: Name of the file, for errors.
        source: TOML text of the file, in which lines are found; "" for other formats.
        path: Keys that lead to the table.
        make_error: Makes an error from its message and hint: the class of error of this kind of file.
    """

    values: Mapping[Any, Any]
    file: str
    source: str = ""
    path: Path = ()
    make_error: Callable[[str, str], PersonaError] = UsageError

    def __contains__(self, key: object) -> bool:
        return self.values.get(key) is not None

    def place(self, key: str | int) -> str:
        """Return the file and line of `key`, or of the table if the key is not there."""
        return place(self.file, self.source, (*self.path, key))

    def error(self, key: str | int, problem: str, hint: str = "") -> PersonaError:
        """Make the error about `key`, with its file, line and full name."""
        return self.make_error(f"{self.place(key)}: {dotted((*self.path, key))}: {problem}", hint)

    def allow(self, known: Collection[str], hint: str = "") -> None:
        """Raise for a key that is not in `known`; `hint` replaces the suggestion of a similar key."""
        for key in self.values:
            if key not in known:
                raise self.error(key, "unknown key", hint or did_you_mean(str(key), known))

    def get(self, key: str, spec: Spec[T]) -> T:
        """Return the value of `key`, or the default of `spec` if it is not set."""
        return self.check(key, self.values[key], spec) if key in self else spec.default

    def check(self, key: str | int, value: Any, spec: Spec[T]) -> T:
        """Return `value` in the type of `spec`; raise the error about `key` if it is not accepted."""
        try:
            return spec.checked(value)
        except (ValueError, OverflowError, TypeError):
            similar = did_you_mean(value, spec.options) if isinstance(spec, Choice) and isinstance(value, str) else ""
            raise self.error(key, f"{shown(value)} is not {spec.wanted}", similar or spec.summary) from None

    def fitting(self, key: str, fits: Callable[[Any], bool], wanted: str) -> Any:
        """Return the value of `key`, None if it is not set; raise if it is not `wanted`."""
        value = self.values.get(key)
        if value is not None and not fits(value):
            raise self.error(key, f"{shown(value)} is not {wanted}", f"Set {key} to {wanted}.")
        return value

    def text(self, key: str, default: D, *, wanted: str = "a string in quotes", empty: bool = True) -> str | D:
        """Return a string; `empty` allows "" and blanks."""
        value = self.fitting(key, lambda value: isinstance(value, str) and (empty or bool(value.strip())), wanted)
        return default if value is None else str(value)

    def texts(self, key: str, wanted: str) -> tuple[str, ...]:
        """Return a list of strings; () if it is not set."""

        def fits(value: Any) -> bool:
            return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) and v for v in value)

        return tuple(self.fitting(key, fits, wanted) or ())

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.fitting(key, lambda value: isinstance(value, bool), "true or false")
        return default if value is None else bool(value)

    def table(self, key: str, hint: str = "", *, optional: bool = False) -> Table:
        """Return the table at `key`; an empty one if it is `optional` and not there."""
        if optional and key not in self:
            return self._inner({}, key)
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            problem = "is missing" if value is None else "must be a table"
            name = dotted((*self.path, key))
            raise self.error(key, problem, hint or f"Write it as [{name}], with its keys below.")
        return self._inner(value, key)

    def tables(self, key: str, hint: str) -> list[Table]:
        """Return the tables in the list at `key`, at least one."""
        values = self.values.get(key)
        if not values or not isinstance(values, list):
            problem = "is missing" if values is None else f"{shown(values)} is not a list of tables"
            raise self.error(key, problem, hint)
        lists = self._inner({}, key)
        for number, value in enumerate(values):
            if not isinstance(value, Mapping):
                raise lists.error(number, f"{shown(value)} is not a table", hint)
        return [lists._inner(value, number) for number, value in enumerate(values)]

    def _inner(self, values: Mapping[Any, Any], key: str | int) -> Table:
        return Table(values, self.file, self.source, (*self.path, key), self.make_error)


class TooDeep(ValueError):
    """TOML that is nested too deeply."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML that somebody else may have written; a byte order mark is ignored.

    Raises:
        ValueError: It is not TOML, or is nested too deeply: the time for a key grows with the square of its parts.
    """
    if deep := _DEEP.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        raise TooDeep(f"a key of more than {DEEPEST} parts (at line {line}, column 1)")
    try:
        return tomllib.loads(text.removeprefix(BOM))
    except RecursionError:
        raise TooDeep("it is too deeply nested") from None


DEEPEST = 100
"""Most parts of a dotted key."""
_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DEEP = re.compile(rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}")


def read_toml(
    data: str | bytes, file: str, make_error: Callable[[str, str], PersonaError] = UsageError, hint: str = ""
) -> Table:
    """Parse TOML.

    Args:
        data: The text, or UTF-8 bytes; a byte order mark is ignored.
        file: Name of the file, for errors.
        make_error: Class of the errors about this file.
        hint: Hint of the error for a file that is not TOML.

    Raises:
        PersonaError: `data` is not TOML in UTF-8; of the class `make_error`.
    """
    try:
        text = (data.decode() if isinstance(data, bytes) else data).removeprefix(BOM)
    except UnicodeDecodeError as error:
        raise make_error(f"{file}: not UTF-8: {error.reason} at byte {error.start}", hint) from None
    try:
        return Table(parse_toml(text), file, text, (), make_error)
    except (tomllib.TOMLDecodeError, TooDeep) as error:
        match = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error))
        where, problem = (f"{file}:{match[2]}", match[1]) if match else (file, str(error))
        raise make_error(f"{where}: invalid TOML: {problem[:1].lower()}{problem[1:]}", hint) from None
    except ValueError:  # Python reads no integers of more than 4300 digits
        match = re.search(r"^(.*?)[+-]?\d[\d_]{4299,}", text, re.MULTILINE)
        where = f"{file}:{text.count(chr(10), 0, match.start()) + 1}" if match else file
        key = match[1].partition("=")[0].strip(" \t\"'") if match else ""
        problem = f"{key}: {_LONG}" if key else _LONG
        raise make_error(f"{where}: {problem}", "Use a smaller number.") from None


_LONG = "an integer of thousands of digits"


def shown(value: Any) -> str:
    """Return a value as errors show it, shortened to 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer that Python refuses to print
        return _LONG
    return text if len(text) <= 60 else f"{text[:57]}…"


def dotted(path: Path) -> str:
    """Return the name of a key in full: ``measures[1].window``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def place(file: str, source: str, path: Path) -> str:
    """Return ``file:line`` of a key, of the table that it belongs in if it is not there, or just the file."""
    lines = (find_line(source, path[:length]) for length in range(len(path), 0, -1))
    line = next((line for line in lines if line), None)
    return f"{file}:{line}" if line else file


def find_line(text: str, path: Path) -> int | None:
    """Return the line (from 1) of a table or key in TOML; None if it is not there, or is inside an inline table."""
    lists: Counter[Path] = Counter()
    try:
        for statement in statements(text):
            is_item = statement.is_header and text[statement.start : statement.stop].lstrip().startswith("[[")
            if is_item:
                lists[statement.path] += 1
            if path == statement.path or (lists and path == _numbered(statement.path, lists)):
                return text.count("\n", 0, statement.start) + 1
    except ValueError:
        return None
    return None


def _numbered(path: tuple[str, ...], lists: Mapping[Path, int]) -> Path:
    """Put the number of the current ``[[table]]`` behind its name."""
    numbered: list[str | int] = []
    for length, name in enumerate(path, 1):
        numbered.append(name)
        if lists.get(path[:length]):
            numbered.append(lists[path[:length]] - 1)
    return tuple(numbered)


_ONE_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
ONE_KEY = re.compile(_ONE_KEY)
_KEY = re.compile(rf"{_ONE_KEY}(?:[ \t]*\.[ \t]*{_ONE_KEY})*")
LAST_KEY = re.compile(rf"{_ONE_KEY}$")
_BARE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_SPACE = re.compile(r"[ \t\r\n]*")
_VALUE_PART = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|[^\"'#\[\]{}\n]+|.",
    re.DOTALL,
)


@dataclass(frozen=True)
class Statement:
    """A header, ``[path]``, or a ``key = value`` in TOML text.

    Attributes:
        path: Full name of the table or key.
        start: Offset of the first of its lines.
        key: The name as it is written.
        value: Where the value is; empty for a header.
        stop: Offset after the last of its lines.
    """

    path: tuple[str, ...]
    is_header: bool
    start: int
    key: str
    value: slice
    stop: int


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of `text`, which must be valid TOML, in order.

    Raises:
        ValueError: the layout is one that this scanner does not know.
    """
    section: tuple[str, ...] = ()
    at = len(BOM) if text.startswith(BOM) else 0
    while at < len(text):
        start = at
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches anything
        start = max(start, text.rfind("\n", 0, at) + 1)
        if text[at : at + 1] in ("", "#"):
            at = line_end(text, at)
            continue
        is_header = text[at] == "["
        match = _KEY.search(text, at) if is_header else _KEY.match(text, at)
        if match is None:
            raise ValueError(f"no key at offset {at}")
        path = _names(match[0])
        if is_header:
            section, stop = path, line_end(text, match.end())
            yield Statement(path, True, start, match[0], slice(match.end(), match.end()), stop)
        else:
            value = _value(text, text.index("=", match.end()) + 1)
            stop = line_end(text, value.stop)
            yield Statement((*section, *path), False, start, match[0], value, stop)
        at = stop


def line_end(text: str, at: int) -> int:
    """Return the offset after the line break that ends the line of `at`."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _names(key: str) -> tuple[str, ...]:
    """Split ``vectors."a"`` into names."""
    if _BARE.fullmatch(key):  # most keys; a recipe of many thousand vectors is scanned for the line of an error
        return tuple(key.split("."))
    table: Any = tomllib.loads(f"{key} = 0")
    names = []
    while isinstance(table, dict):
        [(name, table)] = table.items()
        names.append(name)
    return tuple(names)


def _value(text: str, start: int) -> slice:
    """Find the value that begins at or after `start`, without spaces and comments around it."""
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
