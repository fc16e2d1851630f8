"""Reading files that others may write to: into this process's own memory, never through a map.

If a mapped file is cut short, or its disk fails, the next access to the map ends the process with SIGBUS, without a
message. ``pread`` returns fewer bytes or an ``OSError`` instead, which become errors. docs/decisions/0027 has figures.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.files import open_regular, translated

if TYPE_CHECKING:
    import numpy.typing as npt


class OpenFile:
    """A file that is read at any offset, from any thread. It stays readable after it is renamed or deleted.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = open_regular(path)
        weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size

    def read(self, at: int, length: int) -> bytes:
        """Read ``length`` bytes from offset ``at``, or fewer if the file ends before."""
        with translated(self.path):
            data = os.pread(self._fd, length, at)
            while 0 < len(data) < length and (more := os.pread(self._fd, length - len(data), at + len(data))):
                data += more  # the kernel returns at most 2 GiB at once
        return data

    def read_into(self, out: npt.NDArray[Any], at: int) -> int:
        """Fill ``out`` from offset ``at``; returns the number of bytes, which is smaller if the file ends before."""
        view, done = out.reshape(-1).view("u1").data, 0
        with translated(self.path):
            while done < len(view) and (count := os.preadv(self._fd, [view[done:]], at + done)):
                done += count
        return done
