"""Bounded reading of bytes and values from untrusted files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from persona.checkpoints.sidefiles import stays_inside
from persona.files import Unfit, read_bytes

LARGEST = 64 << 20
"""Maximum size of a file in bytes."""
TEXT = 400
"""Maximum length of a string in characters."""
MANY = 64
"""Maximum number of items of a list."""


class Unreadable(Exception):
    """Why a file cannot be used: the rest of a sentence that starts with the file's name."""


def small_file(folder: Path, name: str) -> bytes | None:
    """Read a regular file in ``folder``; None if it does not exist.

    Raises:
        Unreadable: it is not a regular file, is too large, cannot be read, or is a link to outside the folder.
    """
    path = folder / name
    try:
        if path.is_symlink() and not stays_inside(path, folder):
            raise Unreadable("is a link to outside its folder")
        return read_bytes(path, LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Unfit as error:
        raise Unreadable(f"is {error.strerror}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links
        raise Unreadable(f"cannot be read ({error})") from None


def json_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; Unreadable if it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid JSON ({str(error)[:80]})") from None
    if not isinstance(value, dict):
        raise Unreadable("is not a JSON object")
    return value


def number(value: Any) -> int | float | str | None:
    """A number that JSON can represent, with NaN and infinity as strings; None if ``value`` is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text(value: Any) -> str | None:
    """A valid UTF-8 string of at most ``TEXT`` characters; None if ``value`` is not a string or empty."""
    if not isinstance(value, str) or not value:
        return None
    clean = value.encode(errors="replace").decode()
    return clean if len(clean) <= TEXT else f"{clean[: TEXT - 1]}…"


def plain(value: Any) -> Any:
    """A scalar or a list of scalars; None if ``value`` is anything else or empty."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        items = (plain(item) for item in value[:MANY] if not isinstance(item, list | tuple))
        return [item for item in items if item is not None] or None
    return text(value) if isinstance(value, str) else number(value)


def chosen(table: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The plain values of ``keys`` in order, without those that are missing or empty."""
    values = {key: plain(table.get(key)) for key in keys}
    return {key: value for key, value in values.items() if value is not None}
