"""``checkout`` brings a recipe back to the byte, on a branch or on none."""

from __future__ import annotations

import pytest

import persona
from persona.errors import UsageError
from persona.ids import CommitId


def test_what_a_detached_head_leaves_behind_is_named(half: persona.Repository) -> None:
    persona.checkout(half, "main", detach=True)
    assert persona.status(half).branch is None
    persona.negate(half, "a")
    left = half.head()
    assert persona.checkout(half, "main").left == left
    persona.branch(half, "kept", left[:12])
    persona.checkout(half, "kept", detach=True)
    assert persona.checkout(half, "main").left is None


def test_checkout_brings_the_recipe_back_to_the_byte(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    repo.recipe_path.write_text(repo.recipe_path.read_text().replace("alpha", "alpha  ") + "\n# a comment of mine\n")
    persona.commit(repo, message="comment")
    text = repo.recipe_path.read_text()
    persona.checkout(repo, "main")
    assert repo.recipe_path.read_text() != text
    persona.checkout(repo, "side")
    assert repo.recipe_path.read_text() == text


def test_a_detached_head_commits_to_no_branch(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    assert persona.checkout(repo, "main~1").branch is None
    done = persona.alpha(repo, {"a": 3})
    assert done.branch is None
    assert repo.head() == done.commit
    assert repo.refs()["refs/heads/main"] == history["half"]
    persona.checkout(repo, "HEAD", branch="kept")
    assert repo.refs()["refs/heads/kept"] == done.commit


@pytest.mark.parametrize("name", ["", "a b", "-x", "a..b", "HEAD", "/a", "a/", "x.lock", "a\nb", "../up"])
def test_bad_branch_names(repo: persona.Repository, name: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        persona.checkout(repo, "HEAD", branch=name)


def test_a_branch_that_exists(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    with pytest.raises(UsageError, match="a branch named 'main' already exists"):
        persona.checkout(repo, "HEAD", branch="main")


def test_a_name_cannot_be_a_folder_of_another(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    persona.checkout(repo, "HEAD", branch="feature")
    for name in ("feature/x", "main/y"):
        with pytest.raises(UsageError, match="conflicts with"):
            persona.checkout(repo, "HEAD", branch=name)
    persona.checkout(repo, "HEAD", branch="a/b")
    with pytest.raises(UsageError, match="conflicts with 'a/b'"):
        persona.checkout(repo, "HEAD", branch="a")
    with pytest.raises(UsageError, match="not a valid name"):
        persona.checkout(repo, "HEAD", branch="x" * 201)
    persona.alpha(repo, {"a": 0.125})
