"""``persona.toml``: what a person wrote stays, what is not understood is an error."""

from __future__ import annotations

import string
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona.errors import RecipeError
from persona.ids import ObjectId
from persona.recipe import edit
from persona.recipe.changes import changes
from persona.recipe.model import Entry, Recipe
from persona.recipe.parse import parse
from persona.settings import find_line

BASE = ObjectId("ab" * 32)
START = edit.new_text("qwen", BASE)

HAND_WRITTEN = """\
# mine
[base]
name = "qwen"      # a name
id = "abababababab"


[merge]
scale = 1.0   # untouched

[vectors.voice]
# why it is soft
alpha = 0.25       # soft
id = "1111aaaa"

[vectors.listening]
id = "2222bbbb"
only = [
  "*.mlp.*",   # only these
]
"""


def test_comments_order_and_spacing_survive() -> None:
    text = edit.set_alpha(HAND_WRITTEN, "voice", 0.5)
    assert text == HAND_WRITTEN.replace("alpha = 0.25       # soft", "alpha = 0.5       # soft")
    text = edit.put_vector(HAND_WRITTEN, Entry("voice", "3333cccc" * 8, 0.25))
    assert text == HAND_WRITTEN.replace("1111aaaa", "3333cccc3333")
    text = edit.put_vector(HAND_WRITTEN, Entry("new", "3333cccc" * 8, 1.0, node="n"))
    assert text == HAND_WRITTEN + '\n[vectors.new]\nid = "3333cccc3333"\nalpha = 1.0\nnode = "n"\n'
    text = edit.remove_vector(HAND_WRITTEN, "voice")
    assert "# mine" in text
    assert "scale = 1.0   # untouched" in text
    assert '  "*.mlp.*",   # only these' in text
    assert "voice" not in text


def test_alpha_defaults_to_one_and_can_then_be_set() -> None:
    assert parse(HAND_WRITTEN).entry("listening").alpha == 1.0  # type: ignore[union-attr]
    text = edit.set_alpha(HAND_WRITTEN, "listening", -2.0)
    assert parse(text).entry("listening").alpha == -2.0  # type: ignore[union-attr]


@pytest.mark.parametrize("length", [4, 12, 13, 64])
def test_an_id_stays_as_long_as_it_was_typed(length: int) -> None:
    text = HAND_WRITTEN.replace("1111aaaa", ("1111aaaa" * 8)[:length])
    assert edit.set_alpha(text, "voice", 0.5) == text.replace("alpha = 0.25", "alpha = 0.5")
    assert edit.put_vector(text, Entry("voice", "3333cccc" * 8, 0.25)) == HAND_WRITTEN.replace(
        "1111aaaa", "3333cccc3333"
    )


def test_order_is_the_files() -> None:
    assert [entry.name for entry in parse(HAND_WRITTEN).vectors] == ["voice", "listening"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("base",), 2),
        (("base", "id"), 4),
        (("merge", "scale"), 8),
        (("vectors", "voice", "alpha"), 12),
        (("vectors", "x"), None),
    ],
)
def test_lines_are_found(path: tuple[str, ...], line: int | None) -> None:
    assert find_line(HAND_WRITTEN, path) == line


NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12).filter(lambda s: s[0] != "-")
ENTRIES = st.builds(
    Entry,
    name=NAMES,
    id=st.text("0123456789abcdef", min_size=64, max_size=64),
    alpha=st.floats(-1e6, 1e6),
    node=st.none() | st.text(min_size=1).filter(lambda s: not any(0xD800 <= ord(c) < 0xE000 for c in s)),
    only=st.lists(st.text(string.printable, min_size=1), max_size=2).map(tuple),
)


@given(st.lists(ENTRIES, max_size=6))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    text = START
    expected: dict[str, Entry] = {}
    for entry in entries:
        text = edit.put_vector(text, entry)
        old = expected.get(entry.name)
        node = entry.node if entry.node is not None else old.node if old else None
        only = entry.only or (old.only if old else ())
        expected[entry.name] = Entry(entry.name, entry.id[:12], entry.alpha, node, only)
    assert parse(text).vectors == tuple(expected.values())
    for name in list(expected):
        text = edit.remove_vector(text, name)
        del expected[name]
        assert parse(text).vectors == tuple(expected.values())
    assert parse(text) == parse(START)


@given(st.text())
def test_any_text_is_a_recipe_or_a_recipe_error(text: str) -> None:
    try:
        parse(text)
    except RecipeError as error:
        assert error.message.startswith("persona.toml")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=5), s, max_size=3), max_leaves=8), st.sampled_from(["base", "merge", "vectors", "vectors.a", "vectors.a.alpha", "vectors.a.id", "merge.method", "base.id"]))  # fmt: skip
def test_any_value_anywhere_is_read_or_refused(value: object, where: str) -> None:
    import tomlkit

    table: dict[str, object] = {"base": {"id": "abab"}, "merge": {}, "vectors": {"a": {"id": "abab"}}}
    *path, last = where.split(".")
    at = table
    for key in path:
        at = at[key]  # type: ignore[assignment]
    at[last] = value
    try:
        text = tomlkit.dumps(table)
        tomllib.loads(text)
    except (tomlkit.exceptions.TOMLKitError, tomllib.TOMLDecodeError, ValueError, TypeError):
        return  # no TOML can say it
    try:
        assert isinstance(parse(text), Recipe)
    except RecipeError as error:
        assert error.message.startswith("persona.toml")


def test_changes_read_as_a_person_would_say_them() -> None:
    a, b, c = ("a" * 64), ("b" * 64), ("c" * 64)
    before = Recipe(
        BASE, "qwen", (Entry("listening", a, 0.8), Entry("voice", b, 1.0, node="old"), Entry("gone", c, -0.5))
    )
    after = Recipe(
        BASE, "qwen", (Entry("voice", c, 1.0, node="new"), Entry("listening", a, 1.0), Entry("new", b, 0.25)), scale=0.5
    )
    assert [change.text for change in changes(before, after)] == [
        "scale: 1.0 → 0.5",
        "- gone α -0.5",
        "voice retrained (bbbbbbbbbbbb → cccccccccccc)",
        "voice node: old → new",
        "listening α 0.8 → 1",
        "+ new α 0.25",
        "order of vectors: listening, voice → voice, listening",
    ]
    assert changes(after, after) == []
