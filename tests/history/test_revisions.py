"""What a revision means, from a history with a fork."""

from __future__ import annotations

import pytest

import persona
from persona.errors import Damaged, NoRepository, UsageError
from persona.history.revisions import resolve
from persona.ids import CommitId
from tests.verbs.conftest import half as half  # the fixture
from tests.verbs.conftest import history as history  # the fixture


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("HEAD", "side"), ("@", "side"), ("HEAD~", "a"), ("HEAD^", "a"), ("~1", "a"), ("HEAD~2", "base"), ("HEAD^^", "base"),
        ("main", "half"), ("main~1", "a"), ("main^1~1", "base"), ("side", "side"), ("refs/heads/main", "half"), ("main^0", "half"),
    ],
)  # fmt: skip
def test_revisions(repo: persona.Repository, history: dict[str, CommitId], text: str, name: str) -> None:
    assert resolve(text, repo.refs(), repo.objects) == history[name]


def test_short_ids(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    for commit in history.values():
        assert resolve(commit[:10], repo.refs(), repo.objects) == commit
    with pytest.raises(UsageError, match="no revision"):
        resolve(str(history["a"])[:3], repo.refs(), repo.objects)


def look_around(repo: persona.Repository) -> None:
    persona.log(persona.open(repo.root), "main")
    persona.status(persona.open(repo.root))


def test_damaged_small_files_are_named(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    for path in ("HEAD", "refs/heads/main", "op/head", "op/applied", "format"):
        file = repo.folder / path
        data = file.read_bytes()
        for broken in (b"", data[:5], b"\xff" + data[1:], b"zz" + data[2:]):
            file.write_bytes(broken)
            with pytest.raises((Damaged, NoRepository, UsageError)):
                look_around(repo)
        file.write_bytes(data)
    assert persona.log(persona.open(repo.root))


def test_where_refs_stood_before(half: persona.Repository) -> None:
    newest = half.head()
    added, base = half.resolve("HEAD~1"), half.resolve("HEAD~2")
    assert [half.resolve(f"main@{{{n}}}") for n in range(3)] == [newest, added, base]
    persona.checkout(half, "HEAD~2")
    assert half.resolve("@{0}") == base
    assert half.resolve("HEAD@{1}") == newest
    assert half.resolve("main@{0}") == newest
    persona.undo(half)
    assert half.resolve("HEAD@{1}") == base
    with pytest.raises(UsageError, match="has only moved"):
        half.resolve("main@{99}")
    with pytest.raises(UsageError, match="no branch or tag 'mian'"):
        half.resolve("mian@{1}")
    assert half.resolve("main@{now}") == newest
    with pytest.raises(UsageError, match="is not a time"):
        half.resolve("main@{the other day}")
