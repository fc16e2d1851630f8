"""``tag`` names commits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.verbs import tag as tagging


def test_tags(half: persona.Repository) -> None:
    persona.tag(half, "v1", "HEAD~1")
    assert [(t.name, t.subject) for t in tagging.tags(half)] == [("v1", "add a")]
    with pytest.raises(UsageError, match="a tag named 'v1' already exists"):
        persona.tag(half, "v1")
    persona.tag(half, "v1", force=True)
    assert half.resolve("v1") == half.head()
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
