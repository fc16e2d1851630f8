"""Content ids: BLAKE3 over a domain line and the plain bytes.

    blob     b"persona blob\\n"                              + bytes
    object   b"persona object\\n"                            + canonical JSON
    tensor   b"persona tensor\\n" + b"BF16 [151936,896]\\n"   + little-endian, row-major bytes

The domain line ensures that a tensor never shares an id with a file of the same bytes. How bytes are stored (raw,
compressed, as a delta) does not affect the id. Any BLAKE3 tool computes the same ids.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from blake3 import blake3

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    Data = Buffer | npt.NDArray[np.generic]
    """Anything that supports the buffer protocol."""

SHORT = 12
"""Number of characters of an id that are printed, and that users may type."""

_HEX = frozenset(string.hexdigits.lower())


class Id(str):
    """64 lower-case hex digits."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Raise ValueError if ``text`` is not an id."""
        if not is_id(text):
            raise ValueError(f"not an id: {text!r}")
        return super().__new__(cls, text)

    @property
    def short(self) -> str:
        """The first ``SHORT`` characters, for display."""
        return self[:SHORT]


def is_id(text: object) -> bool:
    """Whether a value is an id, or has the form of one."""
    return isinstance(text, str) and len(text) == 64 and _HEX.issuperset(text)


class TensorId(Id):
    """The id of a tensor: its dtype, shape and bytes."""


class BlobId(Id):
    """The id of a file's bytes."""


class ObjectId(Id):
    """The id of an object in canonical JSON."""


class BaseId(ObjectId):
    """The id of a base."""


class VectorId(ObjectId):
    """The id of a task vector."""


class ReadoutId(ObjectId):
    """The id of a readout."""


class RecipeId(ObjectId):
    """The id of a resolved recipe."""


class CommitId(ObjectId):
    """The id of a commit."""


class OperationId(ObjectId):
    """The id of an operation."""


class NodeId(ObjectId):
    """The id of a snapshot of a memory-graph node."""


class FisherId(ObjectId):
    """The id of a Fisher diagonal."""


class GraphId(ObjectId):
    """The id of a snapshot of a memory graph."""


def flat(data: Data) -> memoryview:
    """Return a buffer with items of any type as bytes."""
    view = memoryview(data)  # type: ignore[arg-type]  # arrays are buffers, which their stubs only say from 3.12
    # A view with a 0 in its shape cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")


class _Threads:
    """Number of threads that a hash may use.

    BLAKE3's thread pool does not survive a fork: a child that used it would wait for ever for threads that only its
    parent has.
    """

    limit = blake3.AUTO

    @classmethod
    def forbid(cls) -> None:
        cls.limit = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Threads.forbid)


class Hasher:
    """An incremental BLAKE3; ``threads=True`` uses all cores, which pays off from about 1 MiB per update."""

    def __init__(self, domain: bytes = b"", *, threads: bool = False) -> None:
        self._hash = blake3(domain, max_threads=_Threads.limit if threads else 1)

    def update(self, data: Data) -> None:
        """Add bytes."""
        self._hash.update(flat(data))

    def hexdigest(self) -> str:
        """The digest so far, as 64 hex digits."""
        return self._hash.hexdigest()


def tensor_hasher(dtype: str, shape: Sequence[int], *, threads: bool = False) -> Hasher:
    """Return a hasher that already holds a tensor's domain line and expects its plain bytes."""
    dims = ",".join(map(str, shape))
    return Hasher(f"persona tensor\n{dtype} [{dims}]\n".encode(), threads=threads)


def tensor_id(dtype: str, shape: Sequence[int], chunks: Iterable[Data], *, threads: bool = False) -> TensorId:
    """Compute the id of a tensor from its plain bytes.

    Args:
        dtype: Name as in safetensors, such as ``BF16``.
        chunks: The tensor's little-endian, row-major bytes, in order.
        threads: Use all cores.
    """
    hasher = tensor_hasher(dtype, shape, threads=threads)
    for chunk in chunks:
        hasher.update(chunk)
    return TensorId(hasher.hexdigest())


def blob_id(data: Data) -> BlobId:
    """Compute the id of a file's bytes."""
    return BlobId(blake3(b"persona blob\n").update(flat(data)).hexdigest())


def draw_key(*parts: str) -> int:
    """Derive a 64-bit random seed from names."""
    return int.from_bytes(blake3("\n".join(("persona draw", *parts)).encode()).digest(8), "little")


def object_digest(data: bytes) -> str:
    """Return the hex digest of an object in its canonical encoding."""
    return blake3(b"persona object\n").update(data).hexdigest()


def file_digest(chunks: Iterable[Data]) -> str:
    """Return the plain BLAKE3 of a file, as ``b3sum`` prints it; packs are named by it."""
    hasher = Hasher(threads=True)
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()
