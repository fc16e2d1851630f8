"""Lists of tensor ids: stored next to a safetensors file in ``packs``, or instead of it.

    packs/<BLAKE3 of the file>.json    canonical JSON {version: 1, tensors: [tensor id]}, in header order
                                       or {version: 2, path, size, tensors}: the file stays where it is

A referenced file belongs to the user. It is checked before it is read, never written and never deleted; as with
every other file, what is read from it is hashed.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import Damaged, Storage, UsageError
from persona.files import LARGEST_JSON, read_bytes, translated
from persona.ids import TensorId
from persona.store.objects import canonical, too_new

VERSION = 2
"""Version of the list format; newer versions are refused. A list without a path has version 1."""

PUT_BACK = (
    "The repository has no copy of it. Restore the file, or give the folder that the same checkpoint is in now: "
    "persona fsck --repair-from FOLDER"
)
"""Hint for a damaged or missing referenced file."""


@dataclass(frozen=True)
class ExternalFile:
    """A file that the repository references instead of copying.

    ``wrong`` says what is wrong with it as far as its size and type show, as the end of a sentence; empty if
    nothing is.
    """

    path: Path
    size: int
    wrong: str = ""


@dataclass(frozen=True)
class Listed:
    """The content of a list."""

    ids: tuple[TensorId, ...]
    outside: ExternalFile | None = None


def read(path: Path) -> Listed:
    """Read a list.

    Raises:
        ValueError, TypeError, KeyError: the file is not a list of tensor ids.
        Damaged: a newer version of persona wrote it.
    """
    fields = _fields(path)
    if fields["version"] > VERSION:
        raise too_new(path, f"version {fields['version']}")
    return Listed(tuple(TensorId(name) for name in fields["tensors"]), _outside(fields))


def _fields(path: Path) -> dict[str, Any]:
    with translated(path):
        fields = json.loads(read_bytes(path, LARGEST_JSON))
    if not isinstance(fields, dict):
        raise TypeError("not a JSON object")
    return fields


def _outside(fields: dict[str, Any]) -> ExternalFile | None:
    if "path" not in fields:
        return None
    text, size = fields["path"], fields["size"]
    if not isinstance(text, str) or not Path(text).is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is not an absolute path")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"the size is {size!r}")
    return ExternalFile(Path(text), size, _wrong(Path(text), size))


def _wrong(path: Path, size: int) -> str:
    """What is wrong with a file, without opening it: reading a pipe or a device might never end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(status.st_mode):
        return "is no longer a regular file"
    return "" if status.st_size == size else f"has changed: {status.st_size:,} bytes instead of {size:,}"


def encode(ids: Iterable[TensorId], outside: ExternalFile | None = None) -> bytes:
    """Encode a list.

    Raises:
        UsageError: the path of ``outside`` is not UTF-8.
    """
    if outside is None:
        return canonical({"version": 1, "tensors": list(ids)})
    try:
        return canonical({"version": 2, "tensors": list(ids), "path": str(outside.path), "size": outside.size})
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(outside.path).encode(errors='backslashreplace').decode()} is not a UTF-8 name and cannot be referenced",
            "Rename it, or omit --reference to store a copy.",
        ) from None


def all_outside(packs: Path) -> tuple[ExternalFile, ...]:
    """The files that the lists of a packs folder reference, sorted by path; unreadable lists are left to ``fsck``."""
    referenced = set[ExternalFile]()
    for path in packs.glob("*.json") if packs.is_dir() else ():
        try:
            outside = _outside(_fields(path))
        except (ValueError, TypeError, KeyError, RecursionError, Damaged, UsageError):
            continue
        except Storage:
            if path.exists():
                raise
            continue  # a link to nothing, or deleted since it was listed
        if outside is not None:
            referenced.add(outside)
    return tuple(sorted(referenced, key=lambda file: file.path))
