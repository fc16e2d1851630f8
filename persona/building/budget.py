"""Room in memory that threads share: who wants more than is left waits until others are done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Condition

DEFAULT = 500_000_000
"""Bytes that a build may hold of tensors at once, unless told otherwise."""


class Budget:
    """A number of bytes to borrow from. One who wants more than all of it gets it when nobody else holds any."""

    def __init__(self, nbytes: int = DEFAULT) -> None:
        self.nbytes = nbytes
        self._free = nbytes
        self._changed = Condition()

    @contextlib.contextmanager
    def if_free(self, nbytes: int) -> Iterator[bool]:
        """Hold so many bytes until the block ends, if they are free now; whether they were."""
        with self._changed:
            taken = nbytes if nbytes <= self._free else 0
            self._free -= taken
        try:
            yield taken == nbytes
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()

    @contextlib.contextmanager
    def borrowed(self, nbytes: int) -> Iterator[None]:
        """Hold so many bytes until the block ends."""
        wanted = min(nbytes, self.nbytes)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
