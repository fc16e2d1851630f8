"""The fingerprint of training data: which bytes, how many, how many lines. The data itself is not kept.

file     digest = BLAKE3 of its bytes, as ``b3sum`` prints it
folder   digest = BLAKE3 of the lines "digest  path\\n" of all files in it, sorted by path: what
         ``find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 b3sum | b3sum`` prints
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import translated
from persona.ids import Hasher, file_digest
from persona.progress import SILENT, Progress, Task

BLOCK = 4 << 20


@dataclass
class _Counted:
    """What has gone by of a file."""

    size: int = 0
    lines: int = 0
    is_text: bool = True
    last: bytes = b"\n"

    def add(self, block: bytes) -> None:
        self.size += len(block)
        self.is_text = self.is_text and b"\0" not in block
        self.lines += block.count(b"\n")
        self.last = block[-1:]


def fingerprint(path: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """``{path, bytes, digest}`` with ``lines`` where it is text, and ``files`` where it is a folder."""
    with translated(path):
        if not path.exists():
            raise UsageError(f"there is no data {path}", "Give a file, or a folder of files.")
        files = _files(path) if path.is_dir() else [path]
        total = sum(file.stat().st_size for file in files)
    with progress.task("reading the data", total) as task:
        if not path.is_dir():
            digest, counted = _read(path, task)
            return _facts(path, digest, [counted])
        found = [(file.relative_to(path), *_read(file, task)) for file in files]
    listing = Hasher()
    for name, digest, _ in sorted(found, key=lambda one: os.fsencode(one[0])):
        listing.update(digest.encode() + b"  " + os.fsencode(name) + b"\n")
    return _facts(path, listing.hexdigest(), [counted for *_, counted in found]) | {"files": len(found)}


def _facts(path: Path, digest: str, counted: list[_Counted]) -> dict[str, Any]:
    facts = {
        "path": os.fsencode(path).decode(errors="replace"),
        "bytes": sum(one.size for one in counted),
        "digest": digest,
    }
    if all(one.is_text for one in counted):
        facts["lines"] = sum(one.lines + (one.last != b"\n") for one in counted)
    return facts


def _read(path: Path, task: Task) -> tuple[str, _Counted]:
    counted = _Counted()

    def blocks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                counted.add(block)
                task.advance(len(block))
                yield block

    if not path.is_file():
        raise UsageError(f"{path} is no regular file", "Give files, or folders of files.")
    with translated(path):
        return file_digest(blocks()), counted


def _files(folder: Path) -> list[Path]:
    """Every file below ``folder``. A link to a file counts as that file; one to a folder has no obvious meaning."""
    found: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if (Path(where) / name).is_symlink():
                raise UsageError(
                    f"{Path(where) / name} is a link to a folder", "Give that folder with a --data of its own."
                )
        found += (Path(where) / name for name in names)
    return found


def _raise(error: OSError) -> None:
    raise error
