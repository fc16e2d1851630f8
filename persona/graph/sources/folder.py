"""A folder of Markdown or text files, one per node.

A node is named by ``id`` or ``name`` in its front matter, or else by its file without the extension. ``[[wiki links]]``
and ``links`` in the front matter are its links. Hidden files and folders are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from persona.errors import UsageError
from persona.files import read_bytes, translated
from persona.graph.sources import LARGEST_TEXT, SourceGraph, SourceOptions

SUMMARY = "a folder of Markdown or text files"
ENDINGS = (".md", ".markdown", ".txt")


def accepts(place: str) -> bool:
    """Return whether it is a folder."""
    return bool(place) and Path(place).is_dir()


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """Yield every file below the folder, sorted by path."""
    root = Path(place)
    for path in _files(root):
        if not path.resolve().is_relative_to(root.resolve()):
            raise UsageError(f"{path} links to a file outside {root}", "Copy the file there, or delete the link.")
        with translated(path):
            if path.stat().st_size > 4 * LARGEST_TEXT:
                raise UsageError(f"{path} is too large for a node", f"The limit is {LARGEST_TEXT:,} characters.")
            data = read_bytes(path)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not UTF-8", "Save it as UTF-8.") from None
        yield SourceGraph(_utf8(path.stem), text, _utf8(str(path)))


def _files(root: Path) -> list[Path]:
    paths = []
    for folder, folders, names in os.walk(root, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(folder, n) for n in names if n.lower().endswith(ENDINGS) and not n.startswith(".")]
    return sorted(path for path in paths if path.is_file())


def _stop(error: OSError) -> None:
    """Raise an error for an unreadable folder, which os.walk would skip."""
    with translated(Path(str(error.filename))):
        raise error


def _utf8(name: str) -> str:
    """Return a file name as valid UTF-8, so that it can be printed."""
    return os.fsencode(name).decode(errors="replace")
