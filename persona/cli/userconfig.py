"""The user's own settings, outside of any repository: `persona/config.toml` in `XDG_CONFIG_HOME` or `~/.config`.

What is executed is only ever taken from here or the environment: the settings of a repository came with it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from persona.errors import Refusal, UsageError
from persona.files import translated


def path() -> Path:
    """The file, which may not exist."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".config") / "persona" / "config.toml"


def table(name: str) -> dict[str, Any]:
    """A table of the file; empty if there is none.

    Raises:
        UsageError: the file cannot be read, or is not valid TOML.
    """
    file = path()
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get(name, {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}", "Fix the line: the file must be valid TOML.") from None
    return found if isinstance(found, dict) else {}


def check_owner(folder: Path, root: Path) -> None:
    """Check that a repository is the user's own, as git does: one in a folder above may have been put there by anybody.

    Raises:
        Refusal: it belongs to somebody else, and `[safe] directory` does not list it, or "*".
    """
    with translated(folder):
        owner = folder.stat().st_uid
    user = os.geteuid()
    own = {str(user), os.environ.get("SUDO_UID", "") if user == 0 else ""}
    if str(owner) in own:
        return
    listed = table("safe").get("directory", [])
    if not {str(root), "*"} & set(listed if isinstance(listed, list) else [listed]):
        raise Refusal(
            f"{root} belongs to another user",
            f'If you trust its owner, write in {path()}, in [safe]: directory = ["{root}"]',
        )
