"""Reading the small files of bases and vectors: each blob once, and never more than such files can be.

A blob of zeros takes almost no space in a pack, and may be listed under many names.
"""

from __future__ import annotations

from collections.abc import Mapping

from persona.errors import Damaged, Refusal
from persona.ids import BlobId
from persona.store.tensors import TensorStore

LARGEST_TOGETHER = 1 << 30
"""Most bytes of the small files of one base or vector; more are not stored."""
LARGEST_IN_MEMORY = 4 << 30
"""Most bytes of the different small files of a base and its vectors together."""


class SmallFiles:
    """Small files in memory; a blob that several have is there once."""

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        self._read: dict[BlobId, bytes] = {}
        self._size = 0

    def of(self, files: Mapping[str, str], whose: str) -> dict[str, bytes]:
        """Read files.

        Args:
            files: Blob ids by name.
            whose: Whose files they are, for errors.

        Raises:
            Damaged: a blob is missing or damaged, or they are larger than any that persona stores.
            Refusal: together with those that were read before, they are too large for memory.
        """
        blobs = {name: BlobId(blob) for name, blob in files.items()}
        sizes = {blob: self._store.blob_size(blob) for blob in blobs.values()}
        if sum(sizes[blob] for blob in blobs.values()) > LARGEST_TOGETHER:
            raise Damaged(
                f"the small files of {whose} are larger than {LARGEST_TOGETHER >> 30} GiB together",
                "persona stores no such files: do not trust the repository that they came from.",
            )
        self._size += sum(size for blob, size in sizes.items() if blob not in self._read)
        if self._size > LARGEST_IN_MEMORY:
            raise Refusal(
                f"the small files of the base and its vectors are larger than {LARGEST_IN_MEMORY >> 30} GiB together",
                "Build with fewer vectors that bring files of their own: give the others alpha = 0.",
            )
        for blob in sizes:
            if blob not in self._read:
                self._read[blob] = self._store.blob(blob)
        return {name: self._read[blob] for name, blob in blobs.items()}
