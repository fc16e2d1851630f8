"""Lists of tensor ids: what stands beside a safetensors file in ``packs``, or instead of it.

    packs/<BLAKE3 of the file>.json    canonical JSON {version: 1, tensors: [tensor id]}, in header order
                                       or {version: 2, path, size, tensors}: the file stays where the user has it

A file that is only referred to belongs to its user. It is looked at before it is mapped, never written and never
deleted, and as with every other file what is read of it is hashed.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import Damaged, UsageError
from persona.files import translated
from persona.ids import TensorId
from persona.store.objects import canonical

VERSION = 2
"""Of the list; a reader refuses what is newer. A list that names no path is of version 1."""

PUT_BACK = (
    "The repository keeps no copy of it. Put it back as it was, or say where the same checkpoint is now: "
    "persona fsck --repair-from FOLDER"
)
"""What to do about a file that is only referred to."""


@dataclass(frozen=True)
class ExternalFile:
    """A file that a repository needs and keeps no bytes of. ``wrong`` says what its file system shows to be amiss."""

    path: Path
    size: int
    wrong: str = ""


@dataclass(frozen=True)
class Listed:
    """What a list says."""

    ids: tuple[TensorId, ...]
    outside: ExternalFile | None = None


def read(path: Path) -> Listed:
    """A list; ValueError, TypeError or KeyError if it is none."""
    fields = _fields(path)
    if fields["version"] > VERSION:
        raise Damaged(
            f"{path} was written by a newer persona (version {fields['version']})",
            "Upgrade persona to read this repository.",
        )
    return Listed(tuple(TensorId(name) for name in fields["tensors"]), _outside(fields))


def _fields(path: Path) -> dict[str, Any]:
    with translated(path):
        fields = json.loads(path.read_bytes())
    if not isinstance(fields, dict):
        raise TypeError("it is no table")
    return fields


def _outside(fields: dict[str, Any]) -> ExternalFile | None:
    if "path" not in fields:
        return None
    text, size = fields["path"], fields["size"]
    if not isinstance(text, str) or not Path(text).is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is no absolute path")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"the size is {size!r}")
    return ExternalFile(Path(text), size, _wrong(Path(text), size))


def _wrong(path: Path, size: int) -> str:
    """What can be told without opening it: a pipe or a device in its place would never end."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(found.st_mode):
        return "is no file any more"
    return "" if found.st_size == size else f"has changed: it has {found.st_size:,} bytes and had {size:,}"


def encode(ids: Iterable[TensorId], outside: ExternalFile | None = None) -> bytes:
    """A list as it is written."""
    if outside is None:
        return canonical({"version": 1, "tensors": list(ids)})
    try:
        return canonical({"version": 2, "tensors": list(ids), "path": str(outside.path), "size": outside.size})
    except UnicodeEncodeError:
        raise UsageError(
            f"{str(outside.path).encode(errors='backslashreplace').decode()} has a name that is not UTF-8, and cannot be referred to",
            "Rename it, or leave out --reference to keep a copy.",
        ) from None


def all_outside(packs: Path) -> tuple[ExternalFile, ...]:
    """The files that the lists of a packs folder refer to, by path; a list that cannot be read is left to ``fsck``."""
    found = set[ExternalFile]()
    for path in packs.glob("*.json") if packs.is_dir() else ():
        try:
            outside = _outside(_fields(path))
        except (ValueError, TypeError, KeyError, RecursionError, Damaged, OSError):
            continue
        if outside is not None:
            found.add(outside)
    return tuple(sorted(found, key=lambda one: one.path))
