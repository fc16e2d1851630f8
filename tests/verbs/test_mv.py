"""``mv`` renames a vector or readout, and leaves the rest of the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import RecipeError, UsageError
from persona.recipe.renaming import rename
from tests.models import TinyModels
from tests.readout.handmade import handmade, written

BASE = '[base]\nname = "b"\nid = "0123456789ab"\n\n'

LAYOUTS = {
    "a table": (
        '# first\n[vectors.a]  # = x\nid = "aaaa"  # by hand\nalpha = 0.5\n\n[vectors.c]\nid = "cccc"\n',
        '# first\n[vectors.b]  # = x\nid = "aaaa"  # by hand\nalpha = 0.5\n\n[vectors.c]\nid = "cccc"\n',
    ),
    "a table below it": (
        '[vectors . "a"]\nid = "aaaa"\n[vectors.a.alpha]\n"*" = 0.5\n',
        '[vectors . b]\nid = "aaaa"\n[vectors.b.alpha]\n"*" = 0.5\n',
    ),
    "dotted keys": (
        '[vectors]\na.id = "aaaa"\na.alpha = 0.5\nab.id = "abab"\n',
        '[vectors]\nb.id = "aaaa"\nb.alpha = 0.5\nab.id = "abab"\n',
    ),
    "rows": ('[vectors]\na = {id = "aaaa"}  # a\n', '[vectors]\nb = {id = "aaaa"}  # a\n'),
    "files and settings": (
        '[files]\ntokenizer = "a"  # its own\n\n[config]\nfrom = "a"\n\n[vectors.a]\nid = "aaaa"\n',
        '[files]\ntokenizer = "b"  # its own\n\n[config]\nfrom = "b"\n\n[vectors.b]\nid = "aaaa"\n',
    ),
    "a readout": ('[readouts.a]\nid = "aaaa"\n', '[readouts.b]\nid = "aaaa"\n'),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    text, wanted = LAYOUTS[name]
    assert rename(BASE + text, "a", "b") == BASE + wanted


def test_an_inline_table_keeps_its_order() -> None:
    text = (
        'vectors = {c = {id = "cccc"}, a = {id = "aaaa"}, d = {id = "dddd"}}\n[base]\nname = "b"\nid = "0123456789ab"\n'
    )
    assert rename(text, "a", "b") == text.replace("a = {", "b = {")


def test_a_layout_that_cannot_be_renamed_is_refused() -> None:
    with pytest.raises(RecipeError, match="laid out"):
        rename(BASE + '[vectors.a]\nid = "aaaa"\n[vectors.b]\nid = "bbbb"\n', "a", "b")


def test_history_follows(models: TinyModels, half: persona.Repository, tmp_path: Path) -> None:
    persona.commit(half, models.run(2), name="b", node="calm")
    text = half.head_text()
    done = persona.mv(half, "a", "gentle", author="Test")
    assert half.head_text() == text.replace("[vectors.a]", "[vectors.gentle]")
    assert done.message == "rename a to gentle"
    assert [change.text for change in done.changes] == ["a renamed to gentle"]
    before, after = half.recipe(half.resolve("HEAD~1")), half.recipe(half.head())
    assert [entry.id for entry in after.vectors] == [entry.id for entry in before.vectors]
    assert [one.subject for one in persona.log(half, vector="gentle")] == ["rename a to gentle"]
    persona.undo(half)
    assert half.head_text() == text
    persona.commit_readout(half, written(tmp_path / "mood", handmade()), name="mood")
    persona.mv(half, "mood", "temper")
    assert half.recipe(half.head()).readout("temper") is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("c", "d", "no vector or readout 'c'"),
        ("a", "a", "there is a 'a' already"),
        ("a", "HEAD", "cannot be the name"),
        ("a", "x y", "not a valid vector name"),
    ],
)
def test_what_cannot_be_renamed(half: persona.Repository, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        persona.mv(half, old, new)
