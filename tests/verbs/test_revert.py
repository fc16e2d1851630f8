"""``revert`` takes one commit back, or says with what it clashes."""

from __future__ import annotations

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.recipe.changes import changes
from tests.verbs.test_merge import names, settle


def test_revert(parted: persona.Repository) -> None:
    persona.alpha(parted, {"listening": 0.9})
    persona.revert(parted, "HEAD~1")
    assert names(parted) == ["listening"]
    assert parted.recipe(parted.head()).vectors[0].alpha == 0.9
    persona.revert(parted, "HEAD")
    assert names(parted) == ["listening", "calm"]


def test_revert_of_a_merge_needs_a_parent(parted: persona.Repository) -> None:
    before = parted.recipe(parted.head())
    persona.merge(parted, ["voice"])
    with pytest.raises(UsageError, match="is a merge"):
        persona.revert(parted, "HEAD")
    with pytest.raises(UsageError, match="no parent 3"):
        persona.revert(parted, "HEAD", mainline=3)
    persona.revert(parted, "HEAD", mainline=1)
    assert changes(before, parted.recipe(parted.head())) == []


def test_revert_that_clashes(parted: persona.Repository) -> None:
    persona.alpha(parted, {"calm": 0.5})
    persona.alpha(parted, {"calm": 0.25})
    done = persona.revert(parted, "HEAD~1")
    assert not done.ok
    assert [clash.where for clash in done.clashes] == ["vectors.calm.alpha"]
    settle(parted, "theirs")
    persona.commit(parted, message="back")
    assert parted.recipe(parted.head()).entry("calm").alpha == 1.0  # type: ignore[union-attr]


def test_what_cannot_be_reverted(parted: persona.Repository) -> None:
    with pytest.raises(Refusal, match="first commit"):
        persona.revert(parted, "HEAD~2")
    persona.revert(parted, "HEAD")
    with pytest.raises(Refusal, match="nothing of"):
        persona.revert(parted, "HEAD~1")
