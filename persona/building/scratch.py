"""Arrays that a thread reuses for every block, which avoids page faults."""

from __future__ import annotations

from threading import local
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.store.tensors import Room


class Scratch(local):
    """One array per role and thread."""

    def __init__(self) -> None:
        self._bytes: dict[object, Any] = {}

    def array(self, role: object, count: int, dtype: str) -> Any:
        """An array of ``count`` entries with arbitrary contents."""
        import numpy as np

        size = count * np.dtype(dtype).itemsize
        if role not in self._bytes or len(self._bytes[role]) < size:
            self._bytes[role] = np.empty(size, np.uint8)
        return self._bytes[role][:size].view(dtype)

    def room(self, role: object) -> Room:
        """A place for the store to put the blocks of one tensor."""
        return lambda count, width: self.array(role, count, f"<u{width}")
