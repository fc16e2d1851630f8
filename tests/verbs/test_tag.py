"""``tag`` names commits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.ids import CommitId
from persona.verbs import tag as tagging


def test_tags(half: persona.Repository) -> None:
    persona.tag(half, "v1", "HEAD~1")
    assert [(t.name, t.subject) for t in tagging.tags(half)] == [("v1", "add a")]
    with pytest.raises(UsageError, match="a tag named 'v1' already exists"):
        persona.tag(half, "v1")
    persona.tag(half, "v1", force=True)
    assert half.resolve("v1") == half.head()
    assert [t.name for t in tagging.tags(half, "v[1-9]")] == ["v1"]
    assert tagging.tags(half, "w*") == []
    tagging.delete_tags(half, ["v1"])
    assert tagging.tags(half) == []


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda repo: tagging.delete_tags(repo, ["v1"]), "no tag 'v1'"),
    ],
)
def test_mistakes_change_nothing(
    half: persona.Repository, action: Callable[[persona.Repository], object], said: str
) -> None:
    before = half.refs(), half.log.head()
    with pytest.raises((UsageError, Refusal), match=said):
        action(half)
    assert (half.refs(), half.log.head()) == before


@pytest.mark.parametrize("name", ["cafe", "2024", "0" * 64])
def test_a_name_that_looks_like_an_id_is_refused(repo: persona.Repository, name: str) -> None:
    with pytest.raises(UsageError, match="looks like the id of a commit"):
        persona.tag(repo, name)
    with pytest.raises(UsageError, match="looks like the id of a commit"):
        persona.switch(repo, name, create=True)


@pytest.mark.parametrize("length", [4, 12, 64])
def test_an_id_means_its_commit_whatever_a_tag_is_called(
    repo: persona.Repository, history: dict[str, CommitId], length: int
) -> None:
    """Such a tag may come from an earlier version."""
    name = history["a"][:length]
    (repo.folder / "refs" / "tags").mkdir(exist_ok=True)
    (repo.folder / "refs" / "tags" / name).write_text(f"{history['half']}\n")
    assert persona.open(repo.root).resolve(name) == history["a"]
