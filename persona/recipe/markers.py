"""Write merge conflicts into ``persona.toml``, for people to resolve.

    <<<<<<< main
    alpha = 0.8
    ||||||| before
    alpha = 0.5
    =======
    alpha = 1.0
    >>>>>>> warmer (c0ffee1)

Keep one side, or write something else, and remove the markers. A file with markers is not a valid recipe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from persona.recipe.choices import FILES, SETTINGS
from persona.recipe.choosing import line_of
from persona.recipe.edit import append_readout, append_vector, toml_alpha
from persona.recipe.model import Recipe
from persona.recipe.rewrite import merge_fields, table_text
from persona.recipe.statements import newline_of, runs, splice, statements, toml_text, unusual
from persona.recipe.threeway import MergeConflict

OURS, BEFORE, MIDDLE, THEIRS = "<<<<<<< ", "||||||| ", "=======", ">>>>>>> "


def mark(
    text: str, clashes: Sequence[MergeConflict], ours: str, theirs: str, their_text: str, their_recipe: Recipe
) -> str:
    """Add conflict markers.

    Args:
        text: Our file, with our side of every clash.
        ours: Label of our side.
        theirs: Label of their side.
        their_text: Their file, from which whole tables are copied.
        their_recipe: The recipe in `their_text`.

    Raises:
        RecipeError: a clash is not on lines of its own, as in inline tables.
    """
    newline = newline_of(text)
    if not text.endswith("\n"):
        text += newline
    blocks = [(_place(text, clash), clash) for clash in _one_method(clashes)]
    for where, clash in sorted(blocks, key=lambda block: block[0].start, reverse=True):
        theirs_lines, before = _their_lines(clash, their_text, their_recipe), ""
        if clash.path[0] in (FILES, SETTINGS):
            key = line_of(text, clash.path)[1]
            theirs_lines, before = _choice(key, clash.theirs), _choice(key, clash.before)
        elif len(clash.path) == 3 and clash.before is not None:
            before = _line(clash.path[-1], clash.before)
        block = _block(text[where], before, theirs_lines, ours, theirs)
        text = splice(text, where, re.sub(r"\r?\n", newline, block))
    return text


def _block(ours: str, before: str, theirs: str, our_name: str, their_name: str) -> str:
    middle = f"{BEFORE}before\n{before}" if before else ""
    return f"{OURS}{our_name}\n{ours}{middle}{MIDDLE}\n{theirs}{THEIRS}{their_name}\n"


def _one_method(clashes: Sequence[MergeConflict]) -> list[MergeConflict]:
    """Turn a clash about the method into one about all of ``[merge]``, whose keys depend on it."""
    if any(clash.path == ("merge", "method") for clash in clashes):
        rest = [clash for clash in clashes if clash.path[0] != "merge"]
        return [MergeConflict(("merge",), None, None, None), *rest]
    return list(clashes)


def _place(text: str, clash: MergeConflict) -> slice:
    """Return the lines of our side, or the empty place where they would be."""
    path = clash.path
    if path[0] in (FILES, SETTINGS):
        return line_of(text, path)[0]
    if len(path) == 1 or clash.is_whole:
        lines = list(runs(statements(text), path))
        if len(lines) == 1:
            return lines[0]
        if lines:
            raise unusual()
        return _end_of(text, ("base",)) if path == ("merge",) else slice(len(text), len(text))
    for statement in statements(text):
        if not statement.is_header and statement.path == path:
            return slice(statement.start, statement.stop)
        if not statement.is_header and statement.path == path[: len(statement.path)]:
            raise unusual()
    return _end_of(text, path[:-1])


def _end_of(text: str, table: tuple[str, ...]) -> slice:
    stops = [statement.stop for statement in statements(text) if statement.path[: len(table)] == table]
    if not stops:
        raise unusual()
    return slice(stops[-1], stops[-1])


def _their_lines(clash: MergeConflict, text: str, recipe: Recipe) -> str:
    path = clash.path
    if path == ("merge",):
        fields = {"method": recipe.method} | merge_fields(recipe)
        return "[merge]\n" + "".join(_line(key, value) for key, value in fields.items())
    if clash.is_whole:
        return _their_table(path[0], path[1], text, recipe)
    return "" if clash.theirs is None else _line(path[-1], clash.theirs)


def _their_table(kind: str, name: str, text: str, recipe: Recipe) -> str:
    """Return a vector or readout as their file has it; "" if they removed it."""
    entry, readout = (recipe.entry(name), None) if kind == "vectors" else (None, recipe.readout(name))
    if entry is None and readout is None:
        return ""
    own = table_text(text, (kind, name))
    return own or (append_vector("", entry) if entry else append_readout("", readout) if readout else "")


def _choice(key: str, value: Any) -> str:
    return "" if value is None else f"{key} = {toml_text(value)}\n"


def _line(key: str, value: Any) -> str:
    if key == "alpha":
        value = toml_alpha(value)
    elif key in ("id", "fisher"):
        value = value[:12]
    elif isinstance(value, tuple):
        value = list(value)
    return f"{key} = {toml_text(value)}\n"
