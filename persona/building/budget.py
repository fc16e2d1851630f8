"""A memory budget that threads share: a thread that needs more than is left waits for the others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Condition

DEFAULT = 500_000_000
"""Default number of bytes of tensors that a build holds at once."""


class Budget:
    """A number of bytes to borrow from. A request for more than all of it is granted when nothing else is borrowed."""

    def __init__(self, nbytes: int = DEFAULT) -> None:
        self.nbytes = nbytes
        self._free = nbytes
        self._changed = Condition()

    @contextlib.contextmanager
    def if_free(self, nbytes: int) -> Iterator[bool]:
        """Borrow ``nbytes`` for the block if they are free now; yields whether they were."""
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
        """Borrow ``nbytes`` for the block, waiting until they are free."""
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
