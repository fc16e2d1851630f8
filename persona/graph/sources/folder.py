"""A folder of Markdown or text files, one for each node.

A node is called as its file without the ending, or as ``id`` or ``name`` in its front matter say. ``[[wiki links]]`` and
``links`` in the front matter are its links. Files and folders whose names begin with a dot are no nodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from persona.errors import UsageError
from persona.files import translated
from persona.graph.sources import LARGEST_TEXT, SourceGraph, SourceOptions

SUMMARY = "a folder of Markdown or text files"
ENDINGS = (".md", ".markdown", ".txt")


def accepts(place: str) -> bool:
    """Whether it is a folder."""
    return bool(place) and Path(place).is_dir()


def read(place: str, options: SourceOptions) -> Iterator[SourceGraph]:
    """Every file below the folder, by path."""
    root = Path(place)
    for path in _files(root):
        if not path.resolve().is_relative_to(root.resolve()):
            raise UsageError(f"{path} is a link out of {root}", "Put the file itself there, or delete the link.")
        with translated(path):
            if path.stat().st_size > 4 * LARGEST_TEXT:
                raise UsageError(f"{path} is too large for a node", f"A node may have {LARGEST_TEXT:,} characters.")
            data = path.read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not UTF-8", "Save it as UTF-8.") from None
        yield SourceGraph(_utf8(path.stem), text, _utf8(str(path)))


def _files(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, n) for n in names if n.lower().endswith(ENDINGS) and not n.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _stop(error: OSError) -> None:
    """A folder that cannot be read is no empty folder."""
    with translated(Path(str(error.filename))):
        raise error


def _utf8(name: str) -> str:
    """A name as a message can have it, whatever bytes it is on disk."""
    return os.fsencode(name).decode(errors="replace")
