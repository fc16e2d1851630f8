"""``rm`` takes vectors out of the recipe. Readouts: test_commit_readout.py."""

from __future__ import annotations

import pytest

import persona
from persona.errors import Refusal, UsageError


def test_vectors_leave_the_recipe_and_stay_in_history(parted: persona.Repository) -> None:
    done = persona.rm(parted, ["listening", "calm", "calm"])
    assert [(one.kind, one.name) for one in done.changes] == [("removed", "listening"), ("removed", "calm")]
    assert persona.vectors(parted) == []
    assert [one.name for one in persona.vectors(parted, "HEAD~1")] == ["listening", "calm"]
    assert "[vectors" not in parted.recipe_path.read_text()


def test_a_name_that_is_not_there_removes_nothing(added: persona.Repository) -> None:
    before = added.refs(), added.recipe_text()
    with pytest.raises(UsageError, match="no vector or readout 'aa' in the recipe") as caught:
        persona.rm(added, ["a", "aa"])
    assert caught.value.hint == "Did you mean 'a'?"
    assert (added.refs(), added.recipe_text()) == before


def test_edits_are_protected(added: persona.Repository) -> None:
    added.recipe_path.write_text(added.recipe_path.read_text() + "# mine\n")
    with pytest.raises(Refusal, match=r"persona\.toml has uncommitted edits") as caught:
        persona.rm(added, ["a"])
    assert "persona restore" in caught.value.hint
