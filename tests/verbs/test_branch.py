"""``branch`` makes, lists, renames and deletes branches, and no commit is lost by mistake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.verbs import branch as branching
from persona.verbs import tag as tagging


def names(repo: persona.Repository) -> list[str]:
    return [one.name for one in branching.branches(repo)]


def test_making_listing_deleting(half: persona.Repository) -> None:
    persona.branch(half, "old", "HEAD~1")
    assert [(b.name, b.subject, b.current) for b in branching.branches(half)] == [
        ("main", "a α 1 → 0.5", True), ("old", "add a", False)
    ]  # fmt: skip
    branching.delete_branches(half, ["old"])
    assert names(half) == ["main"]
    persona.undo(half)
    assert names(half) == ["main", "old"]


def test_a_branch_with_commits_of_its_own_is_not_deleted_by_mistake(half: persona.Repository) -> None:
    persona.switch(half, "side", create=True)
    persona.negate(half, "a")
    persona.switch(half, "main")
    with pytest.raises(Refusal, match="no other branch or tag has"):
        branching.delete_branches(half, ["side"])
    tagging.tag(half, "kept", "side")
    branching.delete_branches(half, ["side"])
    assert half.resolve("kept")


def test_two_branches_on_one_commit_do_not_vouch_for_each_other(half: persona.Repository) -> None:
    persona.switch(half, "side", create=True)
    persona.negate(half, "a")
    persona.branch(half, "twin")
    persona.switch(half, "main")
    with pytest.raises(Refusal):
        branching.delete_branches(half, ["side", "twin"])
    assert names(half) == ["main", "side", "twin"]
    branching.delete_branches(half, ["side", "twin"], force=True)
    assert names(half) == ["main"]


def test_renaming(half: persona.Repository) -> None:
    branching.rename_branch(half, None, "trunk")
    assert persona.status(half).branch == "trunk"
    assert names(half) == ["trunk"]
    persona.branch(half, "other")
    with pytest.raises(UsageError, match="already"):
        branching.rename_branch(half, "other", "trunk")
    branching.rename_branch(half, "other", "another")
    assert names(half) == ["another", "trunk"]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda repo: persona.branch(repo, "main"), "already"),
        (lambda repo: persona.branch(repo, "main", force=True), "is the current branch"),
        (lambda repo: persona.branch(repo, "a b"), "not a valid name"),
        (lambda repo: persona.branch(repo, "x", "nowhere"), "no revision"),
        (lambda repo: persona.branch(repo, "main/x"), "conflicts with"),
        (lambda repo: branching.delete_branches(repo, ["main"]), "is the current branch"),
        (lambda repo: branching.delete_branches(repo, ["mian"]), "no branch 'mian'"),
        (lambda repo: branching.rename_branch(repo, "mian", "x"), "no branch 'mian'"),
    ],
)
def test_mistakes_change_nothing(
    half: persona.Repository, action: Callable[[persona.Repository], object], said: str
) -> None:
    before = half.refs(), half.log.head()
    with pytest.raises((UsageError, Refusal), match=said):
        action(half)
    assert (half.refs(), half.log.head()) == before
