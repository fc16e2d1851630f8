"""``restore`` brings a recipe or its vectors back, and keeps every edit that it drops."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from persona.history.commits import get_text
from persona.ids import CommitId
from tests.models import TinyModels


def test_restoring_one_vector_keeps_other_edits(models: TinyModels, half: persona.Repository) -> None:
    persona.commit(half, models.run(2), name="b")
    edited = half.head_text().replace("alpha = 1.0", "alpha = 9.0") + "# mine\n"
    half.recipe_path.write_text(edited)
    done = persona.restore(half, ["a"], source="HEAD~2")
    assert [change.text for change in done.changes] == ["a α 0.5 → 1"]
    text = half.recipe_text() or ""
    assert "alpha = 9.0" in text
    assert text.endswith("# mine\n")
    assert half.is_edited()
    persona.restore(half, ["b"])
    assert "alpha = 9.0" not in (half.recipe_text() or "")
    assert not persona.restore(half, ["b"]).changed


def test_restoring_what_was_there_and_what_was_not(models: TinyModels, half: persona.Repository) -> None:
    persona.commit(half, models.run(2), name="b")
    persona.rm(half, ["a"])
    persona.restore(half, ["a", "b"], source="HEAD~2")
    assert [entry.name for entry in persona.vectors(half)] == ["a"]
    persona.restore(half)
    assert not half.is_edited()
    with pytest.raises(UsageError, match="no vector or readout 'c'"):
        persona.restore(half, ["c"])


def test_restoring_a_whole_recipe_of_old(half: persona.Repository) -> None:
    done = persona.restore(half, source="HEAD~1")
    assert done.changed
    assert done.backup is None
    assert half.recipe_text() == get_text(half.objects, half.commit(half.resolve("HEAD~1")).text)
    assert persona.status(half).edited
    half.recipe_path.write_text("# half an idea\n")
    backup = persona.restore(half).backup
    assert backup is not None
    assert backup.read_text() == "# half an idea\n"


def test_restore_keeps_the_last_edits_that_it_drops(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    for text in (b"first", b"second", b"\xff not UTF-8", b"third", b"third"):
        repo.recipe_path.write_bytes(text)
        done = persona.restore(repo)
        assert done.backup is not None
        assert done.backup.read_bytes() == text
    assert {path.name: path.read_bytes() for path in repo.root.glob("*.orig*")} == {
        "persona.toml.orig": b"third",
        "persona.toml.orig-2": b"\xff not UTF-8",
        "persona.toml.orig-3": b"second",
    }
    assert not repo.is_edited()
