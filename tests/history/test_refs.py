"""Refs: the files that hold them, what they point at, and which names they may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from persona.errors import Damaged, UsageError
from persona.history import refs

A, B, C = (digit * 64 for digit in "abc")


def test_every_ref_file_is_read(tmp_path: Path) -> None:
    wanted = {
        "HEAD": "ref: refs/heads/main",
        "refs/bisect/from": "ref: refs/heads/main",
        "refs/heads/main": A,
        "refs/heads/warmer/try-2": B,
        "refs/tags/v1": C,
    }
    for name, value in reversed(wanted.items()):
        refs.write(tmp_path, name, value)
    assert (tmp_path / "refs/heads/main").read_bytes() == A.encode() + b"\n"
    found = refs.read_all(tmp_path)
    assert found == wanted
    assert list(found) == list(wanted), "HEAD first, then by name"
    refs.write(tmp_path, "refs/heads/warmer/try-2", A)
    refs.write(tmp_path, "refs/tags/v1", None)
    refs.write(tmp_path, "refs/tags/never", None)
    refs.write(tmp_path, "HEAD", None)
    del wanted["HEAD"], wanted["refs/tags/v1"]
    assert refs.read_all(tmp_path) == wanted | {"refs/heads/warmer/try-2": A}


def test_what_is_no_ref_file_is_left_alone(tmp_path: Path) -> None:
    """Leftovers of killed commands, links to other folders, pipes."""
    refs.write(tmp_path, "refs/heads/main", A)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/ref").write_text(B)
    (tmp_path / "refs/heads/.main.tmp-0123456789ab").write_text(B)
    (tmp_path / "refs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "refs/file").symlink_to(tmp_path / "elsewhere/ref")
    os.mkfifo(tmp_path / "refs/heads/pipe")
    assert refs.read_all(tmp_path) == {"refs/file": B, "refs/heads/main": A}


def test_a_folder_without_refs_has_none(tmp_path: Path) -> None:
    assert refs.read_all(tmp_path) == {}
    (tmp_path / "refs").write_text("a file")
    assert refs.read_all(tmp_path) == {}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "refs").symlink_to("refs")
    with pytest.raises(UsageError) as caught:
        refs.read_all(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path / 'refs'}: too many levels of symbolic links")


def test_the_branch_that_head_follows() -> None:
    assert refs.current_branch({"HEAD": "ref: refs/heads/warmer/try-2"}) == "warmer/try-2"
    assert refs.current_branch({"HEAD": A}) is None
    assert refs.current_branch({}) is None


def test_merged_commits_are_in_order() -> None:
    names = {f"refs/merge/{number}": f"{number:064x}" for number in (10, 2, 1, 9, 11)}
    assert refs.merge_heads({"HEAD": A, "refs/heads/main": A} | names) == [f"{n:064x}" for n in (1, 2, 9, 10, 11)]
    assert refs.merge_heads({"HEAD": A}) == []


def test_a_bisection_is_under_way_while_it_remembers_where_it_began() -> None:
    assert refs.is_bisecting({"refs/bisect/from": A})
    assert not refs.is_bisecting({"refs/bisect/good": A, "HEAD": "refs/bisect/from"})


def test_short_names() -> None:
    known = ["HEAD", "refs/heads/main", "refs/tags/v1", "refs/merge/1", "refs/heads/refs/tags"]
    assert [refs.short_name(ref) for ref in known] == ["HEAD", "main", "v1", "refs/merge/1", "refs/tags"]
    assert refs.short_names(known) == ["main", "v1", "refs/tags"]
    assert refs.short_names(known, (refs.BRANCHES,)) == ["main", "refs/tags"]
    assert refs.short_names(known, (refs.TAGS,)) == ["v1"]


def test_the_commit_that_a_ref_points_at() -> None:
    known = {"HEAD": "ref: refs/heads/main", "refs/heads/main": A, "refs/tags/v1": B}
    assert refs.commit_of("HEAD", known) == refs.commit_of("refs/heads/main", known) == A
    assert refs.commit_of("refs/tags/v1", known) == B
    for value in ("ref: refs/heads/gone", "deadbeef", "", "ref: "):
        with pytest.raises(Damaged) as caught:
            refs.commit_of("refs/bisect/from", known | {"refs/bisect/from": value})
        assert (caught.value.message, caught.value.hint) == (
            f"refs/bisect/from is damaged: '{value}' is not a commit",
            "Restore its file from a backup.",
        )
    with pytest.raises(KeyError):
        refs.commit_of("refs/tags/v2", known)


def test_the_commit_that_head_points_at() -> None:
    assert refs.head_commit({"HEAD": A, "refs/heads/main": B}) == A
    assert refs.head_commit({"HEAD": "ref: refs/heads/main", "refs/heads/main": B}) == B
    for head, said in ({}, "missing"), ({"HEAD": "ref: refs/heads/gone"}, "ref: refs/heads/gone"), ({"HEAD": "x"}, "x"):
        with pytest.raises(Damaged) as caught:
            refs.head_commit(head | {"refs/heads/main": B})
        assert (caught.value.message, caught.value.hint) == (
            f"HEAD ({said}) does not point at a commit",
            "Write the id of a commit (see .persona/objects) into .persona/HEAD, or restore the file from a backup.",
        )


def test_a_new_branch() -> None:
    known = ["HEAD", "refs/heads/main", "refs/tags/v1"]
    assert refs.branch_ref("v1", known) == "refs/heads/v1", "a tag may have the same name"
    assert refs.branch_ref("main", known, force=True) == "refs/heads/main"
    with pytest.raises(UsageError) as caught:
        refs.branch_ref("main", known)
    assert caught.value.message == "a branch named 'main' already exists"
    assert caught.value.hint == "Switch to it: persona switch main"
    with pytest.raises(UsageError, match="not a valid name"):
        refs.branch_ref("HEAD", known, force=True)


def test_tips_are_branches_and_tags() -> None:
    known = {"HEAD": A, "refs/heads/main": A, "refs/merge/1": B, "refs/tags/v1": C, "refs/heads/side": B}
    assert refs.tips(known) == [A, C, B]
    assert refs.tips(known, ["refs/heads/main", "refs/tags/v1"]) == [B]
    with pytest.raises(Damaged, match="refs/heads/main is damaged: 'x' is not a commit"):
        refs.tips(known | {"refs/heads/main": "x"})


def test_a_name_is_not_both_a_file_and_a_folder() -> None:
    known = ["refs/heads/main", "refs/heads/warmer/try", "refs/tags/v1"]
    for new in ("refs/heads/mainly", "refs/heads/warmer/try-2", "refs/heads/v1/x", "refs/heads/main", "refs/heads/w"):
        refs.check_no_overlap(known, new)
    for new, said in {
        "refs/heads/main/x": "'main/x' conflicts with 'main'",
        "refs/heads/warmer": "'warmer' conflicts with 'warmer/try'",
        "refs/tags/v1/a": "'v1/a' conflicts with 'v1'",
    }.items():
        with pytest.raises(UsageError) as caught:
            refs.check_no_overlap(known, new)
        assert (caught.value.message, caught.value.hint) == (
            said,
            "A name cannot be a folder of another one: choose another name.",
        )


def test_names_of_branches_and_tags() -> None:
    for name in (
        "main",
        "warmer/try-2",
        "v1.2+b_3",
        "_",
        "2",
        "a/HEAD",
        "head",
        "x.locked",
        "lock",
        "a.tmp",
        "n" * 200,
    ):
        assert refs.checked_name(name) == name
    for name in (
        "", "HEAD", "-x", ".x", "a//b", "/a", "a/", "a/.b", "a/-b", "a b", "a~1", "ä", "a..b", "x.lock", "a.tmp-b",
        "main\n", "n" * 201,
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            refs.checked_name(name)
        assert (caught.value.message, caught.value.hint) == (
            f"'{name}' is not a valid name for a branch or tag",
            "Use letters, digits, '-', '_', '.', '+' and '/' between parts, as in 'warmer/try-2'.",
        )
