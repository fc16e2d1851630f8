"""Names for commits: ``refs/heads/…``, ``refs/tags/…``, and ``HEAD``.

A ref file holds a commit id; ``HEAD`` holds ``ref: refs/heads/<branch>``, or a commit id when it is detached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from persona import files
from persona.errors import Damaged, UsageError
from persona.ids import CommitId

HEAD = "HEAD"
BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
SYMBOLIC = "ref: "

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")

RefMap = dict[str, str]


def read_all(folder: Path) -> RefMap:
    """Every ref file below ``folder`` (a ``.persona``)."""
    found: RefMap = {}
    head = folder / HEAD
    if head.is_file():
        found[HEAD] = head.read_text().strip()
    for path in sorted((folder / "refs").rglob("*")):
        if path.is_file() and ".tmp-" not in path.name:
            found[path.relative_to(folder).as_posix()] = path.read_text().strip()
    return found


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


def checked_name(name: str) -> str:
    """``name`` if it may name a branch or tag."""
    if not _NAME.fullmatch(name) or name == HEAD or name.endswith(".lock") or ".." in name or ".tmp-" in name:
        raise UsageError(
            f"'{name}' cannot name a branch or tag",
            "Use letters, digits, '-', '_', '.', '+' and '/' between parts, as in 'warmer/try-2'.",
        )
    return name
