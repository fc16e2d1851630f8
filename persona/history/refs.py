"""Names for commits: ``refs/heads/…``, ``refs/tags/…``, and ``HEAD``.

``refs/merge/1``, ``2`` … are there while a merge is unfinished: what it merges into ``HEAD``. They are refs like any
other, so that making, giving up and undoing a merge are operations like any other.

``refs/bisect/…`` are there while a search is: what is known of it (see ``verbs/bisect.py``).

A ref file holds a commit id; ``HEAD`` (and ``refs/bisect/from``, which remembers it) holds ``ref: refs/heads/<branch>``, or a commit id when it is detached.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from persona import files
from persona.errors import Damaged, UsageError
from persona.ids import CommitId

HEAD = "HEAD"
BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
MERGES = "refs/merge/"
BISECT = "refs/bisect/"
BISECT_FROM = "refs/bisect/from"
MERGE_HEAD = "MERGE_HEAD"
SYMBOLIC = "ref: "

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")

RefMap = dict[str, str]


def read_all(folder: Path) -> RefMap:
    """Every ref file below ``folder`` (a ``.persona``)."""
    found: RefMap = {}
    head = files.read_line(folder / HEAD)
    if head is not None:
        found[HEAD] = head
    for name in sorted(_names_below(folder, "refs")):
        if (value := files.read_line(folder / name)) is not None:
            found[name] = value
    return found


def _names_below(folder: Path, name: str) -> Iterator[str]:
    """Files below ``folder/name``, by their names from ``folder``. Every command asks several times: no pathlib."""
    place = folder / name
    with files.translated(place), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(place):
            if entry.is_dir(follow_symlinks=False):
                yield from _names_below(folder, f"{name}/{entry.name}")
            elif ".tmp-" not in entry.name and entry.is_file():
                yield f"{name}/{entry.name}"


def write(folder: Path, name: str, value: str | None) -> None:
    """Set one ref file, or remove it."""
    path = folder / name
    if value is None:
        files.remove_file(path)
        return
    files.make_folder(path.parent)
    files.write_file(path, f"{value}\n".encode())


def current_branch(refs: Mapping[str, str]) -> str | None:
    """The branch that ``HEAD`` follows, or None when it is detached."""
    head = refs.get(HEAD, "")
    return head.removeprefix(SYMBOLIC + BRANCHES) if head.startswith(SYMBOLIC) else None


def merge_heads(refs: Mapping[str, str]) -> list[CommitId]:
    """What an unfinished merge merges into ``HEAD``, in order; empty if there is none."""
    names = sorted((name for name in refs if name.startswith(MERGES)), key=lambda name: (len(name), name))
    return [commit_of(name, refs) for name in names]


def is_bisecting(refs: Mapping[str, str]) -> bool:
    """Whether there is a search."""
    return BISECT_FROM in refs


def short_name(ref: str) -> str:
    """A ref as people call it: ``main`` for ``refs/heads/main``."""
    return ref.removeprefix(BRANCHES).removeprefix(TAGS)


def short_names(refs: Iterable[str], kinds: tuple[str, ...] = (BRANCHES, TAGS)) -> list[str]:
    """Branches and tags as people call them."""
    return [short_name(ref) for ref in refs if ref.startswith(kinds)]


def commit_of(name: str, refs: Mapping[str, str]) -> CommitId:
    """The commit that a branch or tag stands on, or that what a ref follows stands on."""
    value = refs[name]
    try:
        return CommitId(refs.get(value.removeprefix(SYMBOLIC), "") if value.startswith(SYMBOLIC) else value)
    except ValueError:
        raise Damaged(f"{name} is damaged: '{value}' leads to no commit", "Restore its file from a backup.") from None


def head_commit(refs: Mapping[str, str]) -> CommitId:
    """The commit that ``HEAD`` stands on."""
    head = refs.get(HEAD, "")
    value = refs.get(head.removeprefix(SYMBOLIC), "") if head.startswith(SYMBOLIC) else head
    try:
        return CommitId(value)
    except ValueError:
        raise Damaged(
            f"HEAD ({head or 'missing'}) does not lead to a commit",
            "Write the id of a commit (see .persona/objects) into .persona/HEAD, or restore it from a backup.",
        ) from None


def check_no_overlap(refs: Iterable[str], new: str) -> None:
    """Raise if ``new`` would be both a file and a folder: ``a`` beside ``a/b``."""
    for other in refs:
        if other.startswith(new + "/") or new.startswith(other + "/"):
            raise UsageError(
                f"'{short_name(new)}' cannot be a name beside '{short_name(other)}'",
                "One would be a folder of the other: choose another name.",
            )


def checked_name(name: str) -> str:
    """``name`` if it may name a branch or tag."""
    if (
        len(name) > 200
        or not _NAME.fullmatch(name)
        or name == HEAD
        or name.endswith(".lock")
        or ".." in name
        or ".tmp-" in name
    ):
        raise UsageError(
            f"'{name}' cannot name a branch or tag",
            "Use letters, digits, '-', '_', '.', '+' and '/' between parts, as in 'warmer/try-2'.",
        )
    return name
