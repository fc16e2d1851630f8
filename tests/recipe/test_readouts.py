"""Readouts in ``persona.toml``: parsed, edited by splicing, rewritten, and said where they are wrong."""

from __future__ import annotations

import pytest

from persona.errors import RecipeError, UsageError
from persona.recipe.changes import changes
from persona.recipe.edit import put_readout, put_vector, remove_readout, set_merge
from persona.recipe.model import Entry, ReadoutEntry, Recipe
from persona.recipe.parse import parse
from persona.recipe.rewrite import rewrite

A, B, C = (digit * 64 for digit in "abc")
TEXT = f"""\
# mine
[base]
name = "tiny"
id = "{A[:12]}"

[vectors.calm]
id = "{B[:12]}"  # the second one

# how it feels
[readouts.mood]
id = "cccc"  # short
# and a last word
"""


def test_it_is_read() -> None:
    recipe = parse(TEXT + '\n[readouts.aims]\nid = "abab"\n')
    assert recipe.readouts == (ReadoutEntry("aims", "abab"), ReadoutEntry("mood", "cccc"))
    assert recipe.names == {"calm": B[:12], "aims": "abab", "mood": "cccc"}
    assert parse(f'base.id = "{A}"\nreadouts = {{mood = {{id = "cccc"}}}}').readouts == (ReadoutEntry("mood", "cccc"),)


@pytest.mark.parametrize(
    ("more", "line", "what"),
    [
        ("[readouts.calm]\nid = 'abab'\n", 13, "readouts.calm: a vector has this name"),
        ("[readouts.x]\nid = 'abab'\nalpha = 1\n", 15, "readouts.x.alpha: unknown key"),
        ("[readouts.x]\n", None, "readouts.x.id: is missing"),
        ("[readouts.x]\nid = 'main'\n", 14, "readouts.x.id: 'main' is not an id"),
        ("[readouts.'a b']\nid = 'abab'\n", 13, "not a valid readout name"),
        ("[[readouts.x]]\nid = 'abab'\n", None, "readouts.x: must be a table"),
    ],
)
def test_what_is_wrong_is_said(more: str, line: int | None, what: str) -> None:
    with pytest.raises(RecipeError, match=what) as error:
        parse(TEXT + more)
    assert f":{line}:" in error.value.message or line is None


def test_ids_of_recipes_without_readouts_stay() -> None:
    recipe = Recipe(A, "tiny", (Entry("calm", B),))
    assert "readouts" not in recipe.encode()
    with_one = recipe.with_readouts([ReadoutEntry("mood", C)])
    assert Recipe.decode(with_one.encode()) == with_one
    assert Recipe.decode(recipe.encode()) == recipe


def test_put_and_remove_leave_the_rest() -> None:
    added = put_readout(TEXT, ReadoutEntry("aims", A))
    assert added == TEXT + f'\n[readouts.aims]\nid = "{A[:12]}"\n'
    assert remove_readout(added, "aims") == TEXT
    assert put_readout(TEXT, ReadoutEntry("mood", A)) == TEXT.replace('"cccc"', f'"{A[:12]}"')
    assert remove_readout(TEXT, "mood") == TEXT.replace('[readouts.mood]\nid = "cccc"  # short\n', "")


@pytest.mark.parametrize(
    "said",
    [
        'readouts = {mood = {id = "cccc"}}\n[vectors.calm]\nid = "bbbb"\n',
        'readouts.mood.id = "cccc"  # dotted\n[vectors.calm]\nid = "bbbb"\n',
        '[vectors]\ncalm = {id = "bbbb"}\n[readouts]\nmood = {id = "cccc"}\n',
        '[readouts.mood]\nid = "cccc"\n\n[vectors.calm]\nid = "bbbb"\n',
        '[vectors.calm]\nid = "bbbb"\n["readouts"."mood"]\n"id" = "cccc"',
    ],
)
def test_any_layout(said: str) -> None:
    """An edit says exactly what it should, and the vector stays as it is."""
    text = f'base.id = "{A[:12]}"\n{said}'
    changed = put_readout(text, ReadoutEntry("mood", A))
    assert parse(changed).names == {"calm": "bbbb", "mood": A[:12]}
    assert changed.replace(A[:12], "cccc") == text.replace(A[:12], "cccc")
    assert parse(remove_readout(text, "mood")).names == {"calm": "bbbb"}
    assert parse(put_readout(text, ReadoutEntry("aims", C))).names == {"calm": "bbbb", "mood": "cccc", "aims": C[:12]}
    wanted = Recipe(A, "", (Entry("calm", B),)).with_readouts([ReadoutEntry("aims", C), ReadoutEntry("mood", B)])
    assert parse(rewrite(text, wanted)).names == {"calm": "bbbb", "mood": B[:12], "aims": C[:12]}


def test_windows_line_ends_stay() -> None:
    text = TEXT.replace("\n", "\r\n")
    assert put_readout(text, ReadoutEntry("aims", A)).count("\n") == text.count("\n") + 3
    assert "\n" not in put_readout(text, ReadoutEntry("aims", A)).replace("\r\n", "")


def test_a_name_means_one_thing() -> None:
    with pytest.raises(UsageError, match="there is a vector 'calm' already"):
        put_readout(TEXT, ReadoutEntry("calm", A))
    with pytest.raises(UsageError, match="there is a readout 'mood' already"):
        put_vector(TEXT, Entry("mood", A))


def test_other_edits_keep_it() -> None:
    for text in (put_vector(TEXT, Entry("voice", C)), set_merge(TEXT, "ties", 1.0, {})):
        assert parse(text).readouts == (ReadoutEntry("mood", "cccc"),)


def test_rewriting() -> None:
    """Removed, changed, and new with the comment that it has in another file."""
    base = Recipe(A, "tiny", (Entry("calm", B),))
    assert "mood" not in rewrite(TEXT, base)
    assert rewrite(TEXT, base.with_readouts([ReadoutEntry("mood", C)])) == TEXT
    assert rewrite(TEXT, base.with_readouts([ReadoutEntry("mood", A)])) == TEXT.replace('"cccc"', f'"{A[:12]}"')
    bare = remove_readout(TEXT, "mood")
    borrowed = rewrite(bare, base.with_readouts([ReadoutEntry("mood", C)]), TEXT)
    assert '# how it feels\n[readouts.mood]\nid = "cccc"  # short\n' in borrowed


def test_changes_in_words() -> None:
    one, other = (Recipe(A, "tiny").with_readouts([ReadoutEntry("mood", name)]) for name in (B, C))
    assert [c.text for c in changes(Recipe(A, "tiny"), one)] == ["+ readout mood"]
    assert [c.text for c in changes(one, Recipe(A, "tiny"))] == ["- readout mood"]
    assert [c.text for c in changes(one, other)] == [f"readout mood retrained ({B[:12]} → {C[:12]})"]
    assert changes(one, one) == []
