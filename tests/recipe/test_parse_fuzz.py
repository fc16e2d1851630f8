"""Recipes that no person would write: an error that names the file, or a recipe that every edit leaves meaning the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from persona.errors import RecipeError
from persona.recipe import edit
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from tests.amount import fuzzed

from .test_layouts import LAYOUTS

TEXTS, MUTATIONS, TABLES = 1500, 1500, 1000
"""Examples of each kind; docs/format.md names their sum."""

NEW = "d" * 64


def check(text: str) -> Recipe | None:
    """The recipe that a text is, after every edit of it; None if it is refused in words."""
    try:
        recipe = parse(text)
    except RecipeError as error:
        assert error.message.startswith("persona.toml")
        assert "\n" not in error.message.strip()
        return None
    for entry in recipe.vectors[:2]:
        _edits_of(text, recipe, entry)
    if recipe.entry("added") is None:
        _adds(text, recipe)
    return recipe


def _edits_of(text: str, recipe: Recipe, entry: Entry) -> None:
    assert edit.set_alpha(text, entry.name, entry.alpha) == text
    other = replace(entry, alpha=0.125 if entry.alpha != 0.125 else 0.25)
    rest = tuple(one for one in recipe.vectors if one is not entry)
    try:
        changed = edit.set_alpha(text, entry.name, other.alpha)
        removed = edit.remove_vector(text, entry.name)
    except RecipeError as error:
        assert "laid out" in error.message
        return
    assert parse(changed) == replace(recipe, vectors=tuple(other if one is entry else one for one in recipe.vectors))
    assert parse(removed) == replace(recipe, vectors=rest)


def _adds(text: str, recipe: Recipe) -> None:
    try:
        added = edit.put_vector(text, Entry("added", NEW, 0.5))
        back = edit.remove_vector(added, "added")
    except RecipeError as error:
        assert "laid out" in error.message
        return
    assert parse(added).vectors[-1] == Entry("added", NEW[:12], 0.5)
    assert parse(back) == recipe


PIECES = [
    "[base]", "[vectors.a]", "[vectors]", "[[vectors]]", "[merge]", "id", "name", "alpha", "node", "only", "except", "method",
    "scale", " = ", "=", ".", ",", "\n", "\r\n", "\r", " ", "\t", '"', '"""', "'", "'''", "{", "}", "[", "]", "#", "\\", "\0",
    "\ufeff", "1.0", "-0.0", "nan", "-inf", "1e400", "9" * 5000, "0x1f", "true", "1979-05-27", '"abcd"', '"aaaa1111"',
    '["*"]', '"linear"', "\u2028", "é", "[" * 300, "a.b.c", "id = \"abcd\"\n", "[base]\nid = \"abcd\"\n", "[vectors.b]\nid = \"abcd\"\n",
]  # fmt: skip
PIECE = st.one_of(st.sampled_from(PIECES), st.text(max_size=4))


@fuzzed(TEXTS)
@given(text=st.one_of(st.lists(PIECE, max_size=25).map("".join), st.text(max_size=120)))
def test_any_text(text: str) -> None:
    check(text)


@fuzzed(MUTATIONS)
@given(data=st.data())
def test_a_recipe_with_something_else_in_it(data: st.DataObject) -> None:
    """Every layout that people use, with pieces cut out, put in, doubled and moved."""
    text = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 12)))
        at = data.draw(st.integers(0, len(text)))
        how = data.draw(st.sampled_from(["put", "put", "cut", "double", "move", "line"]))
        if how == "put":
            text = text[:at] + data.draw(PIECE) + text[at:]
        elif how == "cut":
            text = text[:start] + text[stop:]
        elif how == "double":
            text = text[:at] + text[start:stop] + text[at:]
        elif how == "move":
            text = (text[:start] + text[stop:])[:at] + text[start:stop] + (text[:start] + text[stop:])[at:]
        else:
            lines = text.split("\n")
            text = "\n".join(data.draw(st.permutations(lines)) if len(lines) < 12 else lines[::-1])
    check(text)


VALUES = st.one_of(
    st.sampled_from(['"abcd"', "1.0", "-2", "0.5", "true", "nan", "inf", "1e308", "[]", '["*.w"]', "{}", '""', "9" * 5000, '"ABCD"']),
    st.floats().map(repr), st.integers().map(str), st.sampled_from(["[1]", '["", 2]', "{id = 1}", "07:32:00", '"../.."', "'linear'"]),
)  # fmt: skip
KEYS = st.sampled_from(
    ["id", "name", "alpha", "node", "only", "except", "method", "scale", "density", "x", '"a b"', "''"]
)
HEADERS = st.sampled_from(
    [
        "base",
        "merge",
        "vectors",
        "vectors.a",
        "vectors.b",
        'vectors."a"',
        "vectors.a.x",
        "vectors.'-'",
        "x",
        "vectors.é",
    ]
)


@fuzzed(TABLES)
@given(
    tables=st.lists(st.tuples(HEADERS, st.lists(st.tuples(KEYS, VALUES), max_size=4)), max_size=5),
    whole=st.booleans(),
)
def test_any_tables(tables: list[tuple[str, list[tuple[str, Any]]]], whole: bool) -> None:
    """TOML, most of it valid, that says anything of anything; half of it beside a base that is as it should be."""
    parts = ['[base]\nid = "abcd"\n'] if whole else []
    for header, pairs in tables:
        parts.append(f"[{header}]\n" + "".join(f"{key} = {value}\n" for key, value in pairs))
    recipe = check("".join(parts))
    if recipe is not None:
        assert all(abs(entry.alpha) <= 1e9 for entry in recipe.vectors)
