"""The git commit of the training code; left out if git does not answer.

The work tree may be somebody else's, and its configuration can name programs. None of them is run: not the monitor of
the file system, hooks, filters of contents (which ``git status`` applies to files that may have changed), or what fetches
missing objects.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Timeout of a git command in seconds."""
_NOTHING_RUNS = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never")
_OURS = ("persona.toml", ".persona/")


def training_code(places: Iterable[Path]) -> dict[str, Any] | None:
    """Facts about the git work tree of the first of ``places`` that is in one; None if none is."""
    for place in places:
        if facts := code_facts(place):
            return facts
    return None


def code_facts(place: Path) -> dict[str, Any] | None:
    """Facts about the work tree that ``place`` is in; None if it is in none, or git is missing.

    ``{folder, commit, branch, dirty, changed, untracked}``: ``changed`` and ``untracked`` count files.
    """
    folder = place if place.is_dir() else place.parent
    top = _git(folder, "rev-parse", "--show-toplevel")
    head = _git(folder, "rev-parse", "--verify", "-q", "HEAD")
    if top is None or head is None:
        return None
    facts: dict[str, Any] = {"folder": utf8(Path(top.strip()).name), "commit": head.strip()}
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    filters = _no_filters(folder)
    options = ("--porcelain", "-z", "--no-renames", "--ignore-submodules=all", "--", ":/")
    status = None if filters is None else _git(folder, *filters, "status", *options)
    if branch is not None:
        facts["branch"] = utf8(branch.strip())
    if status is not None:
        lines = [line for line in status.split("\0") if line and not line[3:].endswith(_OURS)]
        untracked = sum(line.startswith("??") for line in lines)
        changed = len(lines) - untracked
        facts |= {"dirty": changed > 0, "changed": changed, "untracked": untracked}
    return facts


def _no_filters(folder: Path) -> list[str] | None:
    """Options that switch off every filter that the configuration defines; None if that cannot be said for all of them."""
    listed = _git(folder, "config", "--null", "--name-only", "--get-regexp", r"^filter\.", empty=True)
    names = {name.rpartition(".")[0] for name in (listed or "").split("\0") if name}
    if listed is None or any("=" in name or "\n" in name for name in names):
        return None
    settings = ("clean=", "smudge=", "process=", "required=false")
    return [part for name in sorted(names) for setting in settings for part in ("-c", f"{name}.{setting}")]


def _git(folder: Path, *words: str, empty: bool = False) -> str | None:
    """Run git and return its output; None if it fails, is missing or takes too long.

    Args:
        empty: An exit code of 1 means that there is nothing to print.
    """
    quiet = [part for setting in _NOTHING_RUNS for part in ("-c", setting)]
    command = ["git", "-C", str(folder), "--no-optional-locks", *quiet, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False,
            timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 or (empty and done.returncode == 1) else None


def utf8(text: str) -> str:
    """Replace the bytes of a name that are not UTF-8, so that it can be stored in an object."""
    return os.fsencode(text).decode(errors="replace")
