"""Keeps few files open at once: a repository may have more packs than a process may have files.

The file that was opened first is closed first, and opened again when it is read again. One that is being read stays open
until that read is done. If the system runs short of files anyway, all are closed.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from pathlib import Path
from typing import Protocol

from persona.files import is_short
from persona.reading import OpenFile

MOST = 128
"""Files open at once, of all repositories of the process."""


class Holder(Protocol):
    """What keeps a file open: ``held`` is its file, or None while it is closed."""

    held: OpenFile | None


_order: deque[weakref.ref[Holder]] = deque()
_lock = threading.Lock()


def opened(holder: Holder, path: Path) -> OpenFile:
    """The holder's file, opened now unless it is open; another one may be closed for it.

    Raises:
        OSError: the file cannot be opened.
    """
    with _lock:
        if holder.held is None:
            while len(_order) >= MOST:
                _close_oldest()
            holder.held = _open(path)
            _order.append(weakref.ref(holder))
        return holder.held


def _open(path: Path) -> OpenFile:
    try:
        return OpenFile(path)
    except OSError as error:
        if not is_short(error) or not _order:
            raise
    while _order:
        _close_oldest()
    return OpenFile(path)


def _close_oldest() -> None:
    """Let go of a file; it is closed as soon as nobody reads it."""
    holder = _order.popleft()()
    if holder is not None:
        holder.held = None
