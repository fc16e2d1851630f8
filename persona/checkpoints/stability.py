"""Whether files stay as they are while they are read: a run that is saved over itself would be stored as a mixture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from persona.checkpoints.tensorfile import changed_while_read
from persona.files import translated


class _Stamp(NamedTuple):
    """What a write to a file changes, or a file that takes its place."""

    size: int
    modified: int
    inode: tuple[int, int]


class Watch:
    """Files that must not change from when they are added, which must be before they are read, to :meth:`check`."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._before: dict[Path, _Stamp | None] = {}
        self.add(*paths)

    def add(self, *paths: Path) -> None:
        """Watch more files, which may be missing or links."""
        for path in paths:
            if path not in self._before:
                self._before[path] = _stamp(path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that were there."""
        return tuple(path for path, before in self._before.items() if before is not None)

    def check(self) -> None:
        """Raise Storage if a file was written to, replaced, created or deleted in the meantime."""
        for path, before in self._before.items():
            if _stamp(path) != before:
                raise changed_while_read(path)


def _stamp(path: Path) -> _Stamp | None:
    with translated(path):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
    return _Stamp(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))
