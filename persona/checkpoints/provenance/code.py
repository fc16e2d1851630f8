"""Which code trained a run, as git knows it: found by asking git, and left out wherever git does not answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds that git has for an answer."""
_OURS = ("persona.toml", ".persona/")


def training_code(places: Iterable[Path]) -> dict[str, Any] | None:
    """What git says of the first of ``places`` that lies in a work tree; None if none does."""
    for place in places:
        if facts := code_facts(place):
            return facts
    return None


def code_facts(place: Path) -> dict[str, Any] | None:
    """``{folder, commit, branch, dirty, changed, untracked}``; None where there is no work tree, or no git."""
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
    """What git prints; None if it fails, is not there, or takes too long. It runs nothing that the folder configures."""
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
    """A name as an object can keep it, whatever bytes it has."""
    return os.fsencode(text).decode(errors="replace")
