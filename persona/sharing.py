"""Modes of the files of a shared repository: ``[core] shared`` in its ``config.toml``, as git's ``core.sharedRepository``.

``"umask"`` (or false) leaves them to the umask. ``"group"`` (or true) lets the group read and write, and ``"all"`` lets
everybody read besides. Modes are only ever widened, and what its owner cannot write stays read-only.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from persona.errors import UsageError
from persona.settings import parse_toml

Shared = Literal["umask", "group", "all"]
BITS: Mapping[Any, int] = {False: 0, "umask": 0, True: 0o660, "group": 0o660, "all": 0o664}
CONFIG = "config.toml"
LARGEST = 1 << 20
"""Most bytes of a configuration that are read."""

_configs: dict[Path, Path] = {}
_read: dict[Path, tuple[tuple[int, int, int], int]] = {}
"""The bits by configuration, and the state of the file that they were read from."""


def declare(path: Path, folder: Path) -> None:
    """Let the configuration in ``folder``, a ``.persona``, decide the modes of ``path`` and all below it."""
    _configs[path] = folder / CONFIG


def bits(path: Path) -> int:
    """The permissions that a new file at ``path`` gets besides those that the umask leaves.

    Raises:
        UsageError: the configuration that decides it says nothing valid.
    """
    declared = next((_configs[one] for one in (path, *path.parents) if one in _configs), None)
    return 0 if declared is None else _bits_in(declared)


def widened(mode: int, more: int) -> int:
    """The mode of a file or folder with ``more`` permissions; a folder's group becomes that of all that is made in it."""
    if not more:
        return stat.S_IMODE(mode)
    if not mode & stat.S_IWUSR:
        more &= ~0o222
    widened = stat.S_IMODE(mode) | more
    return widened | (widened & 0o444) >> 2 | stat.S_ISGID if stat.S_ISDIR(mode) else widened


def line(shared: Shared) -> str:
    """The text of a new repository's configuration."""
    return f'[core]\nshared = "{shared}"\n'


def _bits_in(config: Path) -> int:
    try:
        status = config.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ValueError("it is not a regular file, or too large")
        state = status.st_mtime_ns, status.st_size, status.st_ino
        known = _read.get(config)
        if known is None or known[0] != state:
            known = state, _parsed(config, parse_toml(config.read_text(encoding="utf-8")))
            _read[config] = known
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise UsageError(f"{config}: {error}", "Fix the line: the file must be valid TOML.") from None
    return known[1]


def _parsed(config: Path, fields: Mapping[str, Any]) -> int:
    core = fields.get("core", {})
    value = core.get("shared", False) if isinstance(core, dict) else core
    if not isinstance(value, bool | str) or value not in BITS:
        known = ", ".join(f'"{one}"' for one in get_args(Shared))
        raise UsageError(f"{config}: core.shared is {value!r}", f"Write [core], and below it shared as one of {known}.")
    return BITS[value]
