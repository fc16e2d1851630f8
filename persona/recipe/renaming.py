"""Rename a vector or readout in ``persona.toml``: its table stays where it is, and comments stay."""

from __future__ import annotations

from dataclasses import replace

import tomlkit

from persona.recipe.choices import TOKENS, Choices
from persona.recipe.choosing import rewrite_choices
from persona.recipe.edit import checked
from persona.recipe.model import Recipe
from persona.recipe.parse import parse
from persona.recipe.statements import splice, statements
from persona.settings import ONE_KEY, Statement


def rename(text: str, old: str, new: str) -> str:
    """Rename a vector or readout, also where ``[files]`` and ``[config]`` name it.

    Args:
        old: A name in the recipe.
        new: A name that is not.

    Raises:
        RecipeError: the layout cannot be edited.
    """
    recipe = parse(text)
    kind = "vectors" if recipe.entry(old) is not None else "readouts"
    for statement in reversed([*statements(text)]):
        if statement.path[:2] == (kind, old):
            text = _renamed(text, statement, new)
        elif statement.path == (kind,) and not statement.is_header:
            text = _renamed_inline(text, statement, old, new)
    wanted = _with_name(recipe, old, new)
    text = rewrite_choices(text, recipe.choices, wanted.choices)
    return checked(text, wanted)


def _renamed(text: str, statement: Statement, new: str) -> str:
    """Rename the second part of a key's full name, if it is written in this statement."""
    parts = [*ONE_KEY.finditer(statement.key)]
    at = 1 - (len(statement.path) - len(parts))  # a key leaves out the name of its section
    if at < 0:
        return text
    start = text.index(statement.key, statement.start)
    return splice(text, slice(start + parts[at].start(), start + parts[at].end()), new)


def _renamed_inline(text: str, statement: Statement, old: str, new: str) -> str:
    document = tomlkit.parse(f"x = {text[statement.value]}")
    table = tomlkit.inline_table()
    for name, value in document["x"].items():
        table[new if name == old else name] = value
    return splice(text, statement.value, table.as_string())


def _with_name(recipe: Recipe, old: str, new: str) -> Recipe:
    vectors = tuple(replace(entry, name=new) if entry.name == old else entry for entry in recipe.vectors)
    readouts = [replace(entry, name=new) if entry.name == old else entry for entry in recipe.readouts]
    named = replace(recipe, vectors=vectors).with_readouts(readouts)
    return replace(named, choices=_choices(recipe.choices, old, new)) if recipe.entry(old) is not None else named


def _choices(choices: Choices, old: str, new: str) -> Choices:
    files = {group: new if name == old and group != TOKENS else name for group, name in choices.files.items()}
    return replace(choices, files=files, settings_from=new if choices.settings_from == old else choices.settings_from)
