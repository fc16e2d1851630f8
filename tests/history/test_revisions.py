"""Revisions, log and checkout, from a history with a fork."""

from __future__ import annotations

from pathlib import Path

import pytest

import persona
from persona.errors import Damaged, NoRepository, UsageError
from persona.history.revisions import resolve
from persona.ids import CommitId
from tests.models import TinyModels


@pytest.fixture
def history(models: TinyModels, repo: persona.Repository) -> dict[str, CommitId]:
    """base - a - half (main), and a - side (side)."""
    named = {"base": repo.head()}
    persona.commit(repo, models.run(1), name="a")
    named["a"] = repo.head()
    persona.alpha(repo, {"a": 0.5})
    named["half"] = repo.head()
    persona.checkout(repo, "HEAD~1", branch="side")
    persona.negate(repo, "a")
    named["side"] = repo.head()
    return named


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


def test_log_is_newest_first_and_names_what_stands_where(
    repo: persona.Repository, history: dict[str, CommitId]
) -> None:
    logged = persona.log(repo)
    assert [one.commit for one in logged] == [history["side"], history["a"], history["base"]]
    assert logged[0].names == ("side",)
    assert logged[0].is_head
    assert [one.names for one in persona.log(repo, "main")] == [("main",), (), ()]
    assert len(persona.log(repo, limit=2)) == 2


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


def test_restore_keeps_every_edit_that_it_drops(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    for text in (b"first", b"second", b"\xff not UTF-8"):
        repo.recipe_path.write_bytes(text)
        done = persona.restore(repo)
        assert done.backup is not None
        assert done.backup.read_bytes() == text
    assert sorted(p.name for p in repo.root.glob("*.orig*")) == [f"persona.toml.orig{n}" for n in ("", "-2", "-3")]
    assert not repo.is_edited()


def test_a_recipe_that_is_a_link_stays_one(
    repo: persona.Repository, tmp_path: Path, history: dict[str, CommitId]
) -> None:
    real = tmp_path / "real.toml"
    repo.recipe_path.rename(real)
    real.chmod(0o600)
    repo.recipe_path.symlink_to(real)
    persona.alpha(repo, {"a": 0.125})
    assert repo.recipe_path.is_symlink()
    assert "0.125" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o600


def test_the_base_is_no_vector(repo: persona.Repository, history: dict[str, CommitId]) -> None:
    base = repo.recipe(repo.head()).base
    with repo.recipe_path.open("a") as file:
        file.write(f'\n[vectors.x]\nid = "{base[:12]}"\n')
    with pytest.raises(UsageError, match="no vector"):
        persona.commit(repo, message="x")


def test_a_vector_is_first_where_it_was_committed_even_if_all_commits_are_of_one_second(
    repo: persona.Repository, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona.workspace.record.now", lambda: "2026-01-01T00:00:00+00:00")
    first = persona.commit(repo, models.run(1), name="a", author="Test").recorded
    assert first is not None
    persona.tag(repo, "then")
    for alpha in (0.5, 0.25, 0.125):
        persona.alpha(repo, {"a": alpha}, author="Test")
    assert persona.show(repo, "a@then").commit == first.commit
    assert persona.show(repo, "a").commit == first.commit
