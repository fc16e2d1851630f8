"""Bytes and values from files that may be anything: within bounds, or not at all."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from persona.checkpoints.folder import stays_inside

LARGEST = 64 << 20
"""Bytes of a file that is read."""
TEXT = 400
"""Characters of a text that are kept."""
MANY = 64
"""Items of a list that are kept."""


class Unreadable(Exception):
    """Why a file says nothing; the text goes on from the file's name."""


def small_file(folder: Path, name: str) -> bytes | None:
    """The bytes of a regular file of ``folder``; None if there is none."""
    path = folder / name
    try:
        if path.is_symlink() and not stays_inside(path, folder):
            raise Unreadable("is a link out of its folder")
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Unreadable("is no regular file")
            if about.st_size > LARGEST:
                raise Unreadable(f"has more than {LARGEST >> 20} MiB")
            return file.read(LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise Unreadable(f"cannot be read ({error})") from None


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid JSON ({str(error)[:80]})") from None
    if not isinstance(value, dict):
        raise Unreadable("is not a JSON object")
    return value


def number(value: Any) -> int | float | str | None:
    """A number as an object can keep it: NaN and infinity, which losses may be, by name; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text(value: Any) -> str | None:
    """A text that UTF-8 can say, cut where it is long; None if it is none."""
    if not isinstance(value, str) or not value:
        return None
    clean = value.encode(errors="replace").decode()
    return clean if len(clean) <= TEXT else f"{clean[: TEXT - 1]}…"


def plain(value: Any) -> Any:
    """A scalar, or a list of some; None if it is anything else, or nothing."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        items = [
            one for one in (plain(one) for one in value[:MANY] if not isinstance(one, list | tuple)) if one is not None
        ]
        return items or None
    return text(value) if isinstance(value, str) else number(value)


def chosen(table: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The plain values of ``keys``, in their order; what is not there, or nothing, is left out."""
    found = {key: plain(table.get(key)) for key in keys}
    return {key: value for key, value in found.items() if value is not None}
