"""The git commit of the training code; left out if git does not answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Timeout of a git command in seconds."""
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
    status = _git(folder, "status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=all", "--", ":/")
    if branch is not None:
        facts["branch"] = utf8(branch.strip())
    if status is not None:
        lines = [line for line in status.split("\0") if line and not line[3:].endswith(_OURS)]
        untracked = sum(line.startswith("??") for line in lines)
        changed = len(lines) - untracked
        facts |= {"dirty": changed > 0, "changed": changed, "untracked": untracked}
    return facts


def _git(folder: Path, *words: str) -> str | None:
    """Run git and return its output; None if it fails, is missing or takes too long.

    The fsmonitor is off because it would run a program that the folder configures.
    """
    command = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False,
            timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None


def utf8(text: str) -> str:
    """Replace the bytes of a name that are not UTF-8, so that it can be stored in an object."""
    return os.fsencode(text).decode(errors="replace")
