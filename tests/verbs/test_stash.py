"""``stash`` puts edits aside, brings them back, and loses none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import persona
from persona.errors import RecipeError, Refusal, UsageError
from persona.verbs.stash import drop, pop, stashes
from tests.verbs.test_merge import settle


def edit(repo: persona.Repository, old: str, new: str) -> str:
    """Replace something in ``persona.toml``."""
    text = repo.recipe_path.read_text()
    assert old in text
    repo.recipe_path.write_text(text.replace(old, new))
    return repo.recipe_path.read_text()


def test_there_and_back(half: persona.Repository) -> None:
    first = edit(half, "alpha = 0.5", "alpha = 0.7  # warm")
    done = persona.stash(half, message="warmer", author="Test")
    assert [change.text for change in done.changes] == ["a α 0.5 → 0.7"]
    assert not half.is_edited()
    edit(half, "alpha = 0.5", "alpha = 0.9")
    persona.stash(half)
    assert [(one.name, one.subject) for one in stashes(half)] == [
        ("stash@{0}", f"on main, {half.head()[:7]} a α 1 → 0.5"),
        ("stash@{1}", "warmer"),
    ]
    assert half.recipe(half.resolve("stash@{0}")).vectors[0].alpha == 0.9
    assert not pop(half, 1).kept
    assert half.recipe_path.read_text() == first
    assert [one.changes[0].text for one in stashes(half)] == ["a α 0.5 → 0.9"]


def test_gc_keeps_what_only_a_stash_needs(parted: persona.Repository) -> None:
    text = edit(parted, "alpha = 0.5", "alpha = 0.7")
    persona.stash(parted)
    for _ in range(12):  # more operations than gc remembers in any case
        persona.tag(parted, "here", force=True)
        persona.checkout(parted, "HEAD", detach=True)
        persona.checkout(parted, "main")
    persona.gc(parted, grace=0)
    assert persona.fsck(parted).ok
    pop(parted)
    assert parted.recipe_path.read_text() == text


def test_on_another_branch(parted: persona.Repository) -> None:
    edit(parted, "alpha = 0.5", "alpha = 0.7")
    persona.stash(parted)
    persona.switch(parted, "voice")
    assert not pop(parted).kept
    now = persona.status(parted).recipe
    assert [(entry.name, entry.alpha) for entry in now.vectors] == [("listening", 0.7), ("voice", 1.0)]
    assert stashes(parted) == []


def test_conflicts_and_comments_without_a_place_keep_the_stash(half: persona.Repository) -> None:
    edit(half, "alpha = 0.5", "alpha = 0.7")
    persona.stash(half)
    edit(half, "alpha = 0.5", "alpha = 0.5  # not more")
    persona.stash(half)
    persona.alpha(half, {"a": 0.1})
    assert pop(half, 0).kept
    assert not half.is_edited()
    done = pop(half, 1)
    assert [clash.where for clash in done.clashes] == ["vectors.a.alpha"]
    settle(half, "theirs")
    assert persona.status(half).recipe.vectors[0].alpha == 0.7
    assert len(stashes(half)) == 2


ACTIONS: dict[str, Callable[[persona.Repository], object]] = {"push": persona.stash, "pop": pop, "drop": drop}


@pytest.mark.parametrize("name", ACTIONS)
def test_undo_and_redo(half: persona.Repository, name: str) -> None:
    edit(half, "alpha = 0.5", "alpha = 0.7")
    if name != "push":
        persona.stash(half)
    before = half.recipe_path.read_text(), half.refs()
    ACTIONS[name](half)
    after = half.recipe_path.read_text(), half.refs()
    assert after != before
    persona.undo(half)
    assert (half.recipe_path.read_text(), half.refs()) == before
    persona.redo(half)
    assert (half.recipe_path.read_text(), half.refs()) == after


def test_undo_overwrites_no_newer_edit(half: persona.Repository) -> None:
    edit(half, "alpha = 0.5", "alpha = 0.7")
    persona.stash(half)
    pop(half)
    edit(half, "alpha = 0.7", "alpha = 0.8")
    with pytest.raises(Refusal, match="has uncommitted edits"):
        persona.undo(half)
    with pytest.raises(Refusal, match="has uncommitted edits"):
        pop(half)


def test_what_cannot_be_stashed(half: persona.Repository) -> None:
    with pytest.raises(Refusal, match="has no edits"):
        persona.stash(half)
    with pytest.raises(UsageError, match=r"no stash@\{0\}"):
        pop(half)
    with pytest.raises(UsageError, match=r"no stash@\{3\}"):
        half.resolve("stash@{3}")
    edit(half, "alpha = 0.5", "alpha = ")
    with pytest.raises(RecipeError, match=r"persona\.toml:10:"):
        persona.stash(half)
