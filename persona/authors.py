"""The name of the person who makes commits: from the repository's settings, else git's, else the login name."""

from __future__ import annotations

import os
from collections.abc import Mapping


def author_of(user: Mapping[str, str]) -> str:
    """Return the author of a new commit, such as ``Ada <ada@example.org>``.

    Args:
        user: ``name`` and ``email`` as far as the repository's ``config.toml`` has them; what it lacks is read from git's
            configuration.
    """
    name, email = user.get("name") or _git("user.name"), user.get("email") or _git("user.email")
    name = name or _login()
    text = f"{name} <{email}>" if email else name
    return os.fsencode(text).decode(errors="replace")  # names of a login may have bytes that are not UTF-8


def _git(key: str) -> str | None:
    """A value of git's configuration; None if it is not set, or git cannot be run."""
    import shutil
    import subprocess

    if shutil.which("git") is None:
        return None
    try:
        done = subprocess.run(
            ["git", "config", "--get", key], capture_output=True, encoding="utf-8", errors="replace", check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    return done.stdout.strip() or None


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
