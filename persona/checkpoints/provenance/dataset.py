"""The fingerprint of training data: digest, size and number of lines. The data itself is not stored.

file     digest = BLAKE3 of its bytes, as ``b3sum`` prints it
folder   digest = BLAKE3 of the lines "digest  path\\n" of all files in it, sorted by path, the same as
         ``find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 b3sum | b3sum``
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.files import opened, translated
from persona.ids import Hasher, file_digest
from persona.progress import SILENT, Progress, Task

BLOCK = 4 << 20


@dataclass
class _Counted:
    """Running totals of a file."""

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
    """``{path, bytes, digest}``, with ``lines`` if all of it is text and ``files`` if it is a folder.

    Raises:
        UsageError: ``path`` does not exist, or contains something other than files and folders.
    """
    with translated(path):
        if not path.exists():
            raise UsageError(f"{path} does not exist", "Give a file, or a folder of files.")
        files = _files(path) if path.is_dir() else [path]
        total = sum(file.stat().st_size for file in files)
    with progress.task("reading the data", total) as task:
        if not path.is_dir():
            digest, counted = _read(path, task)
            return _facts(path, digest, [counted])
        entries = [(file.relative_to(path), *_read(file, task)) for file in files]
    listing = Hasher()
    for name, digest, _ in sorted(entries, key=lambda entry: os.fsencode(entry[0])):
        listing.update(digest.encode() + b"  " + os.fsencode(name) + b"\n")
    return _facts(path, listing.hexdigest(), [counted for *_, counted in entries]) | {"files": len(entries)}


def _facts(path: Path, digest: str, counted: list[_Counted]) -> dict[str, Any]:
    facts = {
        "path": os.fsencode(path).decode(errors="replace"),
        "bytes": sum(file.size for file in counted),
        "digest": digest,
    }
    if all(file.is_text for file in counted):
        facts["lines"] = sum(file.lines + (file.last != b"\n") for file in counted)
    return facts


def _read(path: Path, task: Task) -> tuple[str, _Counted]:
    counted = _Counted()

    def blocks() -> Iterator[bytes]:
        with opened(path) as file:
            while block := file.read(BLOCK):
                counted.add(block)
                task.advance(len(block))
                yield block

    if not path.is_file():
        raise UsageError(f"{path} is not a regular file", "Give files, or folders of files.")
    with translated(path):
        return file_digest(blocks()), counted


def _files(folder: Path) -> list[Path]:
    """All files below ``folder``. Links to files are followed; links to folders are refused, as they may be cycles."""
    files: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if (Path(where) / name).is_symlink():
                raise UsageError(f"{Path(where) / name} is a link to a folder", "Give that folder with another --data.")
        files += (Path(where) / name for name in names)
    return files


def _raise(error: OSError) -> None:
    raise error
