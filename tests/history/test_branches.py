"""Branches, tags, going places: what git users rely on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

import persona
from persona.errors import Refusal, UsageError
from persona.history.commits import get_text
from persona.history.times import parse_time
from persona.verbs import branch as branching
from persona.verbs import tag as tagging
from tests.models import TinyModels


@pytest.fixture
def work(models: TinyModels, repo: persona.Repository) -> persona.Repository:
    """base - a - half, on main."""
    persona.commit(repo, models.run(1), name="a")
    persona.alpha(repo, {"a": 0.5})
    return repo


def names(repo: persona.Repository) -> list[str]:
    return [one.name for one in branching.branches(repo)]


def test_making_listing_deleting(work: persona.Repository) -> None:
    persona.branch(work, "old", "HEAD~1")
    assert [(b.name, b.subject, b.current) for b in branching.branches(work)] == [
        ("main", "a α 1 → 0.5", True), ("old", "add a", False)
    ]  # fmt: skip
    branching.delete_branches(work, ["old"])
    assert names(work) == ["main"]
    persona.undo(work)
    assert names(work) == ["main", "old"]


def test_a_branch_with_commits_of_its_own_is_not_deleted_by_mistake(work: persona.Repository) -> None:
    persona.switch(work, "side", create=True)
    persona.negate(work, "a")
    persona.switch(work, "main")
    with pytest.raises(Refusal, match="no other branch or tag has"):
        branching.delete_branches(work, ["side"])
    tagging.tag(work, "kept", "side")
    branching.delete_branches(work, ["side"])
    assert work.resolve("kept")


def test_two_branches_on_one_commit_do_not_vouch_for_each_other(work: persona.Repository) -> None:
    persona.switch(work, "side", create=True)
    persona.negate(work, "a")
    persona.branch(work, "twin")
    persona.switch(work, "main")
    with pytest.raises(Refusal):
        branching.delete_branches(work, ["side", "twin"])
    assert names(work) == ["main", "side", "twin"]
    branching.delete_branches(work, ["side", "twin"], force=True)
    assert names(work) == ["main"]


def test_renaming(work: persona.Repository) -> None:
    branching.rename_branch(work, None, "trunk")
    assert persona.status(work).branch == "trunk"
    assert names(work) == ["trunk"]
    persona.branch(work, "other")
    with pytest.raises(UsageError, match="already"):
        branching.rename_branch(work, "other", "trunk")
    branching.rename_branch(work, "other", "another")
    assert names(work) == ["another", "trunk"]


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
        (lambda repo: tagging.delete_tags(repo, ["v1"]), "no tag 'v1'"),
        (lambda repo: persona.switch(repo, "HEAD~1"), "is a revision, not a branch"),
        (lambda repo: persona.switch(repo, "mian"), "no revision 'mian'"),
        (lambda repo: persona.switch(repo, "main", create=True), "already"),
    ],
)
def test_mistakes_change_nothing(
    work: persona.Repository, action: Callable[[persona.Repository], object], said: str
) -> None:
    before = work.refs(), work.log.head()
    with pytest.raises((UsageError, Refusal), match=said):
        action(work)
    assert (work.refs(), work.log.head()) == before


def test_tags(work: persona.Repository) -> None:
    persona.tag(work, "v1", "HEAD~1")
    assert [(t.name, t.subject) for t in tagging.tags(work)] == [("v1", "add a")]
    with pytest.raises(UsageError, match="a tag named 'v1' already exists"):
        persona.tag(work, "v1")
    persona.tag(work, "v1", force=True)
    assert work.resolve("v1") == work.head()
    tagging.delete_tags(work, ["v1"])
    assert tagging.tags(work) == []


def test_a_tag_is_no_branch_to_switch_to(work: persona.Repository) -> None:
    persona.tag(work, "v1")
    with pytest.raises(UsageError, match="not a branch"):
        persona.switch(work, "v1")
    assert persona.checkout(work, "v1").branch is None


def test_back_and_forth(work: persona.Repository) -> None:
    persona.switch(work, "side", create=True)
    persona.switch(work, "main")
    assert persona.switch(work, "-").branch == "side"
    assert persona.checkout(work, "-").branch == "main"
    assert work.resolve("@{-1}") == work.resolve("side")
    persona.checkout(work, "HEAD~1")
    assert persona.checkout(work, "@{-1}").branch == "main"


def test_edits_come_along_where_nothing_is_lost(work: persona.Repository) -> None:
    edited = work.head_text() + "# mine\n"
    work.recipe_path.write_text(edited)
    done = persona.switch(work, "side", create=True)
    assert done.carried
    assert work.recipe_text() == edited
    assert persona.switch(work, "main").carried
    with pytest.raises(Refusal, match="edits that checkout would overwrite"):
        persona.checkout(work, "HEAD~1")
    assert work.recipe_text() == edited


def test_what_a_detached_head_leaves_behind_is_named(work: persona.Repository) -> None:
    persona.checkout(work, "main", detach=True)
    assert persona.status(work).branch is None
    persona.negate(work, "a")
    left = work.head()
    assert persona.checkout(work, "main").left == left
    persona.branch(work, "kept", left[:12])
    persona.checkout(work, "kept", detach=True)
    assert persona.checkout(work, "main").left is None


def test_where_refs_stood_before(work: persona.Repository) -> None:
    half = work.head()
    added, base = work.resolve("HEAD~1"), work.resolve("HEAD~2")
    assert [work.resolve(f"main@{{{n}}}") for n in range(3)] == [half, added, base]
    persona.checkout(work, "HEAD~2")
    assert work.resolve("@{0}") == base
    assert work.resolve("HEAD@{1}") == half
    assert work.resolve("main@{0}") == half
    persona.undo(work)
    assert work.resolve("HEAD@{1}") == base
    with pytest.raises(UsageError, match="has only moved"):
        work.resolve("main@{99}")
    with pytest.raises(UsageError, match="no branch or tag 'mian'"):
        work.resolve("mian@{1}")
    assert work.resolve("main@{now}") == half
    with pytest.raises(UsageError, match="is not a time"):
        work.resolve("main@{the other day}")


NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", "2026-11-24T15:30:00+00:00"), ("yesterday", "2026-11-23T15:30:00+00:00"),
        ("today", "2026-11-24T00:00:00+00:00"), ("2 hours ago", "2026-11-24T13:30:00+00:00"),
        ("2.hours.ago", "2026-11-24T13:30:00+00:00"), ("an hour ago", "2026-11-24T14:30:00+00:00"),
        ("last week", "2026-11-17T15:30:00+00:00"), ("3 weeks ago", "2026-11-03T15:30:00+00:00"),
        ("2026-11-20", "2026-11-20T00:00:00+00:00"), ("2026-11-20 14:00", "2026-11-20T14:00:00+00:00"),
        ("2026-11-20T14:00:00+02:00", "2026-11-20T14:00:00+02:00"),
    ],
)  # fmt: skip
def test_times(text: str, wanted: str) -> None:
    assert parse_time(text, NOW).isoformat() == wanted


@pytest.mark.parametrize(
    "text", ["", "soon", "ago", "last 3 weeks", "999999 years ago", "2026-13-01", "3 fortnights ago"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text, NOW)


def test_restoring_one_vector_keeps_other_edits(models: TinyModels, work: persona.Repository) -> None:
    persona.commit(work, models.run(2), name="b")
    edited = work.head_text().replace("alpha = 1.0", "alpha = 9.0") + "# mine\n"
    work.recipe_path.write_text(edited)
    done = persona.restore(work, ["a"], source="HEAD~2")
    assert [change.text for change in done.changes] == ["a α 0.5 → 1"]
    text = work.recipe_text() or ""
    assert "alpha = 9.0" in text
    assert text.endswith("# mine\n")
    assert work.is_edited()
    persona.restore(work, ["b"])
    assert "alpha = 9.0" not in (work.recipe_text() or "")
    assert not persona.restore(work, ["b"]).changed


def test_restoring_what_was_there_and_what_was_not(models: TinyModels, work: persona.Repository) -> None:
    persona.commit(work, models.run(2), name="b")
    persona.rm(work, ["a"])
    persona.restore(work, ["a", "b"], source="HEAD~2")
    assert [entry.name for entry in persona.vectors(work)] == ["a"]
    persona.restore(work)
    assert not work.is_edited()
    with pytest.raises(UsageError, match="no vector or readout 'c'"):
        persona.restore(work, ["c"])


def test_restoring_a_whole_recipe_of_old(work: persona.Repository) -> None:
    done = persona.restore(work, source="HEAD~1")
    assert done.changed
    assert done.backup is None
    assert work.recipe_text() == get_text(work.objects, work.commit(work.resolve("HEAD~1")).text)
    assert persona.status(work).edited
    work.recipe_path.write_text("# half an idea\n")
    backup = persona.restore(work).backup
    assert backup is not None
    assert backup.read_text() == "# half an idea\n"
