"""Splice the text of ``persona.toml`` at its statements, and leave everything else as it is.

The text is valid TOML: it has been parsed before. A layout that the scanner does not understand is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import tomlkit

from persona import settings
from persona.errors import RecipeError
from persona.recipe.parse import FILE
from persona.settings import Statement


def unusual() -> RecipeError:
    """Make the error for a layout that cannot be edited safely."""
    return RecipeError(
        f"{FILE} is laid out in a way that cannot be edited without changing something else",
        "Write vectors as [vectors.NAME] tables, or edit the file by hand and run: persona commit",
    )


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of `text`, which must be valid TOML (see :func:`persona.settings.statements`).

    Raises:
        RecipeError: the layout is one that the scanner does not know.
    """
    try:
        yield from settings.statements(text)
    except ValueError:
        raise unusual() from None


def splice(text: str, where: slice, new: str) -> str:
    """Replace the part `where` of `text` by `new`."""
    return text[: where.start] + new + text[where.stop :]


def newline_of(text: str) -> str:
    """Return the line break that `text` uses."""
    return "\r\n" if "\r\n" in text else "\n"


def toml_text(value: Any) -> str:
    """Return `value` as TOML."""
    return str(tomlkit.item(value).as_string())


def runs(statements: Iterable[Statement], path: tuple[str, ...]) -> Iterator[slice]:
    """Yield the runs of lines whose statements all belong to one vector, readout or section."""
    run: slice | None = None
    for statement in statements:
        if statement.path[: len(path)] == path:
            run = slice(run.start if run else statement.start, statement.stop)
        elif run:
            yield run
            run = None
    if run:
        yield run


def append_lines(text: str, lines: str) -> str:
    """Append lines after a blank line, with the line breaks of `text`."""
    newline = newline_of(text)
    if text and not text.endswith("\n"):
        text += newline
    gap = newline if text and not text.endswith(("\n\n", "\n\r\n")) else ""
    return text + gap + re.sub(r"\r?\n", newline, lines)


def without_lines(text: str, where: slice) -> str:
    """Remove lines, and the blank lines on one side of them."""
    before, after = text[: where.start], text[where.stop :]
    blank = re.match(r"(?:[ \t]*\r?\n)*", after)
    if not before or re.search(r"\n[ \t]*\r?\n$", before):
        after = after[blank.end() if blank else 0 :]
        if not after:
            before = re.sub(r"(?<=\n)[ \t]*\r?\n$", "", before)
    return before + after
