"""``switch`` goes from branch to branch, and edits come along."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import persona
from persona.errors import Refusal, UsageError


def test_a_tag_is_no_branch_to_switch_to(half: persona.Repository) -> None:
    persona.tag(half, "v1")
    with pytest.raises(UsageError, match="not a branch"):
        persona.switch(half, "v1")
    assert persona.checkout(half, "v1").branch is None


def test_back_and_forth(half: persona.Repository) -> None:
    persona.switch(half, "side", create=True)
    persona.switch(half, "main")
    assert persona.switch(half, "-").branch == "side"
    assert persona.checkout(half, "-").branch == "main"
    assert half.resolve("@{-1}") == half.resolve("side")
    persona.checkout(half, "HEAD~1")
    assert persona.checkout(half, "@{-1}").branch == "main"


def test_edits_come_along_where_nothing_is_lost(half: persona.Repository) -> None:
    edited = half.head_text() + "# mine\n"
    half.recipe_path.write_text(edited)
    done = persona.switch(half, "side", create=True)
    assert done.carried
    assert half.recipe_text() == edited
    assert persona.switch(half, "main").carried
    with pytest.raises(Refusal, match="edits that checkout would overwrite"):
        persona.checkout(half, "HEAD~1")
    assert half.recipe_text() == edited


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda repo: persona.switch(repo, "HEAD~1"), "is a revision, not a branch"),
        (lambda repo: persona.switch(repo, "mian"), "no revision 'mian'"),
        (lambda repo: persona.switch(repo, "main", create=True), "already"),
    ],
)
def test_mistakes_change_nothing(
    half: persona.Repository, action: Callable[[persona.Repository], object], said: str
) -> None:
    before = half.refs(), half.log.head()
    with pytest.raises((UsageError, Refusal), match=said):
        action(half)
    assert (half.refs(), half.log.head()) == before
