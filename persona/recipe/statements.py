"""Where things stand in ``persona.toml``: a scanner of its statements, and splices that leave the rest as it is.

The text is valid TOML (it was parsed before). A layout that the scanner does not understand is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import tomlkit

from persona.errors import RecipeError
from persona.recipe.parse import FILE

_ONE_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_ONE_KEY}(?:[ \t]*\.[ \t]*{_ONE_KEY})*")
_SPACE = re.compile(r"[ \t\r\n]*")
LAST_KEY = re.compile(rf"{_ONE_KEY}$")
_VALUE_PART = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*|[^\"'#\[\]{}\n]+|.",
    re.DOTALL,
)


def unusual() -> RecipeError:
    """The error about a layout that is better left alone."""
    return RecipeError(
        f"{FILE} is laid out in a way that cannot be edited without changing something else",
        "Write vectors as [vectors.NAME] tables, or make this change by hand and record it with 'persona commit'.",
    )


@dataclass(frozen=True)
class Statement:
    """``[path]``, or ``key = value``; ``start`` and ``stop`` are those of its lines."""

    path: tuple[str, ...]
    is_header: bool
    start: int
    key: str
    value: slice
    stop: int


def statements(text: str) -> Iterator[Statement]:
    """What ``text``, which is valid TOML, says line by line; blank lines and comments are left out."""
    section: tuple[str, ...] = ()
    at = 1 if text.startswith("\ufeff") else 0
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
            raise unusual()
        path = _path(match[0])
        if is_header:
            section, stop = path, line_end(text, match.end())
            yield Statement(path, True, start, match[0], slice(match.end(), match.end()), stop)
        else:
            value = _value(text, text.index("=", match.end()) + 1)
            stop = line_end(text, value.stop)
            yield Statement((*section, *path), False, start, match[0], value, stop)
        at = stop


def line_end(text: str, at: int) -> int:
    """Where the line ends that ``at`` is in, its line break included."""
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


def splice(text: str, where: slice, new: str) -> str:
    """``text`` with ``new`` in one place."""
    return text[: where.start] + new + text[where.stop :]


def newline_of(text: str) -> str:
    """The line break that ``text`` uses."""
    return "\r\n" if "\r\n" in text else "\n"


def said(value: Any) -> str:
    """A value as TOML writes it."""
    return str(tomlkit.item(value).as_string())


def runs(found: Iterable[Statement], vector: tuple[str, ...]) -> Iterator[slice]:
    """The lines of a vector, a readout, or a section: from each first statement of its to the last one before another's."""
    run: slice | None = None
    for one in found:
        if one.path[: len(vector)] == vector:
            run = slice(run.start if run else one.start, one.stop)
        elif run:
            yield run
            run = None
    if run:
        yield run


def without_lines(text: str, where: slice) -> str:
    """Take lines out, and of the blank lines around them those on one side."""
    before, after = text[: where.start], text[where.stop :]
    blank = re.match(r"(?:[ \t]*\r?\n)*", after)
    if not before or re.search(r"\n[ \t]*\r?\n$", before):
        after = after[blank.end() if blank else 0 :]
        if not after:
            before = re.sub(r"(?<=\n)[ \t]*\r?\n$", "", before)
    return before + after
