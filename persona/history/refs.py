"""Refs, the names for commits: ``refs/heads/…``, ``refs/tags/…``, and ``HEAD``.

``refs/merge/1``, ``2`` … exist during a merge and point at the commits being merged into ``HEAD``. As they are
ordinary refs, starting, aborting and undoing a merge are ordinary operations. ``refs/bisect/…`` hold the state of a
bisection (see ``verbs/bisect.py``). ``refs/stash/1``, ``2`` … are stashed edits, the newest last (``verbs/stash.py``).

A ref file holds a commit id. ``HEAD``, and ``refs/bisect/from``, which remembers it, hold ``ref:
refs/heads/<branch>``, or a commit id when detached.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

from persona import files
from persona.errors import Damaged, UsageError
from persona.ids import CommitId

HEAD = "HEAD"
BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
MERGES = "refs/merge/"
BISECT = "refs/bisect/"
STASHES = "refs/stash/"
BISECT_FROM = "refs/bisect/from"
MERGE_HEAD = "MERGE_HEAD"
SYMBOLIC = "ref: "

MIN_PREFIX = 4
"""Minimum number of characters of an abbreviated id."""

_ID = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")

_KNOWN = re.compile(rf"HEAD|refs/(heads|tags|merge|bisect|stash|remotes)/{_NAME.pattern}")
_COMMIT = re.compile(r"[0-9a-f]{64}")

RefMap = dict[str, str]


def read_all(folder: Path) -> RefMap:
    """Read every ref file below ``folder`` (a ``.persona``)."""
    refs: RefMap = {}
    head = files.read_line(folder / HEAD)
    if head is not None:
        refs[HEAD] = head
    for name in sorted(_names_below(folder, "refs")):
        if (value := files.read_line(folder / name)) is not None:
            refs[name] = value
    return refs


def _names_below(folder: Path, name: str) -> Iterator[str]:
    """Yield the files below ``folder/name`` relative to ``folder``; without pathlib, as every command calls it often."""
    place = folder / name
    with files.translated(place), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(place):
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(folder, f"{name}/{entry.name}")
            elif ".tmp-" not in entry.name and entry.is_file():
                yield f"{name}/{entry.name}"


def check(name: str, value: str | None) -> None:
    """Raise ValueError unless ``name`` is that of a ref, and ``value`` a commit's id, or what HEAD may hold, or None."""
    if not _KNOWN.fullmatch(name) or not _is_safe(name):
        raise ValueError(f"{name!r} is not the name of a ref")
    branch = value.removeprefix(SYMBOLIC) if value is not None and name in (HEAD, BISECT_FROM) else None
    if value is None or _COMMIT.fullmatch(value):
        return
    if branch is None or branch == value or not branch.startswith(BRANCHES):
        raise ValueError(f"{name} cannot hold {value!r}")
    check(branch, None)


def _is_safe(name: str) -> bool:
    """Whether no part of a name leads out of its folder, or is that of a temporary file."""
    return ".." not in name and ".tmp-" not in name and not name.endswith(".lock")


def write(folder: Path, name: str, value: str | None) -> None:
    """Write one ref file, or remove it for None; ValueError if they are not a ref's name and value."""
    check(name, value)
    path = folder / name
    if value is None:
        files.remove_file(path)
        return
    files.make_folder(path.parent)
    files.write_file(path, f"{value}\n".encode())


def current_branch(refs: Mapping[str, str]) -> str | None:
    """Return the branch that ``HEAD`` follows, or None when it is detached."""
    head = refs.get(HEAD, "")
    return head.removeprefix(SYMBOLIC + BRANCHES) if head.startswith(SYMBOLIC) else None


def merge_heads(refs: Mapping[str, str]) -> list[CommitId]:
    """Return the commits that an unfinished merge is merging into ``HEAD``, in order."""
    names = sorted((name for name in refs if name.startswith(MERGES)), key=lambda name: (len(name), name))
    return [commit_of(name, refs) for name in names]


def stashes(refs: Iterable[str]) -> list[str]:
    """Return the refs of stashed edits, newest first: ``stash@{0}``, ``stash@{1}`` …"""
    return sorted((name for name in refs if name.startswith(STASHES)), key=_stash_number, reverse=True)


def new_stash(refs: Iterable[str]) -> str:
    """Return the ref for a new stashed edit."""
    return f"{STASHES}{max(map(_stash_number, stashes(refs)), default=0) + 1}"


def _stash_number(name: str) -> int:
    """Return the number of a stash; 0 for a name that persona does not give."""
    number = name.removeprefix(STASHES)
    return int(number) if number.isascii() and number.isdigit() else 0


def is_bisecting(refs: Mapping[str, str]) -> bool:
    """Return whether a bisection is under way."""
    return BISECT_FROM in refs


def short_name(ref: str) -> str:
    """Return the short name of a ref: ``main`` for ``refs/heads/main``."""
    return ref.removeprefix(BRANCHES).removeprefix(TAGS)


def short_names(refs: Iterable[str], kinds: tuple[str, ...] = (BRANCHES, TAGS)) -> list[str]:
    """Return the short names of branches and tags."""
    return [short_name(ref) for ref in refs if ref.startswith(kinds)]


def commit_of(name: str, refs: Mapping[str, str]) -> CommitId:
    """Return the commit that a ref points at, directly or through the branch that it follows.

    Raises:
        Damaged: It does not point at a commit.
    """
    value = refs[name]
    try:
        return CommitId(refs.get(value.removeprefix(SYMBOLIC), "") if value.startswith(SYMBOLIC) else value)
    except ValueError:
        raise Damaged(f"{name} is damaged: '{value}' is not a commit", "Restore its file from a backup.") from None


def head_commit(refs: Mapping[str, str]) -> CommitId:
    """Return the commit that ``HEAD`` points at.

    Raises:
        Damaged: It does not point at a commit.
    """
    head = refs.get(HEAD, "")
    value = refs.get(head.removeprefix(SYMBOLIC), "") if head.startswith(SYMBOLIC) else head
    try:
        return CommitId(value)
    except ValueError:
        raise Damaged(
            f"HEAD ({head or 'missing'}) does not point at a commit",
            "Write the id of a commit (see .persona/objects) into .persona/HEAD, or restore the file from a backup.",
        ) from None


def branch_ref(name: str, refs: Iterable[str], *, force: bool = False) -> str:
    """Return the full name of a new branch.

    Args:
        force: Allow a branch that exists already.

    Raises:
        UsageError: The name is invalid, or the branch exists already.
    """
    ref = BRANCHES + checked_name(name)
    if ref in refs and not force:
        raise UsageError(f"a branch named '{name}' already exists", f"Switch to it: persona switch {name}")
    return ref


def tips(refs: Mapping[str, str], without: Container[str] = ()) -> list[CommitId]:
    """Return the commits that branches and tags point at, except for the refs in ``without``."""
    return [commit_of(ref, refs) for ref in refs if ref.startswith((BRANCHES, TAGS)) and ref not in without]


def check_no_overlap(refs: Iterable[str], new: str) -> None:
    """Raise UsageError if ``new`` would have to be both a file and a folder: ``a`` beside ``a/b``."""
    for other in refs:
        if other.startswith(new + "/") or new.startswith(other + "/"):
            raise UsageError(
                f"'{short_name(new)}' conflicts with '{short_name(other)}'",
                "A name cannot be a folder of another one: choose another name.",
            )


def is_like_an_id(name: str) -> bool:
    """Return whether a name could be the beginning of a commit's id."""
    return _ID.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return ``name`` if it is valid for a branch or tag; raise UsageError otherwise."""
    if is_like_an_id(name):
        raise UsageError(
            f"'{name}' is not a valid name for a branch or tag: it looks like the id of a commit",
            f"Add another character, as in 'v{name}'.",
        )
    if len(name) > 200 or not _NAME.fullmatch(name) or name == HEAD or not _is_safe(name):
        raise UsageError(
            f"'{name}' is not a valid name for a branch or tag",
            "Use letters, digits, '-', '_', '.', '+' and '/' between parts, as in 'warmer/try-2'.",
        )
    return name
