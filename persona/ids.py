"""Names of content: BLAKE3 over a domain line and the plain bytes.

    blob     b"persona blob\\n"                              + bytes
    object   b"persona object\\n"                            + canonical JSON
    tensor   b"persona tensor\\n" + b"BF16 [151936,896]\\n"   + little-endian, row-major bytes

The domain line keeps a tensor from ever sharing an id with a file that has the same bytes. How bytes are
stored (raw, compressed, as a delta) is not part of an id. Any BLAKE3 tool computes the same ids.
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
    """Anything that has bytes."""

SHORT = 12
"""Characters of an id that people see and may type."""

_HEX = frozenset(string.hexdigits.lower())


class Id(str):
    """64 lower-case hex digits."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the text; ValueError if it is no id."""
        if len(text) != 64 or not _HEX.issuperset(text):
            raise ValueError(f"not an id: {text!r}")
        return super().__new__(cls, text)

    @property
    def short(self) -> str:
        """The first characters, for people."""
        return self[:SHORT]


class TensorId(Id):
    """Names dtype, shape and bytes of one tensor."""


class BlobId(Id):
    """Names the bytes of one file."""


class ObjectId(Id):
    """Names one canonical object."""


class BaseId(ObjectId):
    """Names a base."""


class VectorId(ObjectId):
    """Names a task vector."""


class ReadoutId(ObjectId):
    """Names a readout."""


class RecipeId(ObjectId):
    """Names a resolved recipe."""


class CommitId(ObjectId):
    """Names a commit."""


class OperationId(ObjectId):
    """Names an operation."""


class NodeId(ObjectId):
    """Names a snapshot of a memory-graph node."""


class FisherId(ObjectId):
    """Names a Fisher diagonal."""


class GraphId(ObjectId):
    """Names a snapshot of a memory graph."""


def flat(data: Data) -> memoryview:
    """The bytes of a buffer with any kind of items (an empty one with a shape cannot be cast)."""
    view = memoryview(data)  # type: ignore[arg-type]  # arrays are buffers, which their stubs only say from 3.12
    return view.cast("B") if view.nbytes else memoryview(b"")


class _Threads:
    """How many a hash may use. The threads of the process that forked are not there in its child, which would wait for them
    for ever."""

    most = blake3.AUTO

    @classmethod
    def forget(cls) -> None:
        cls.most = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Threads.forget)


class Hasher:
    """A running BLAKE3; ``threads=True`` uses all cores and pays from about 1 MiB per update."""

    def __init__(self, domain: bytes = b"", *, threads: bool = False) -> None:
        self._hash = blake3(domain, max_threads=_Threads.most if threads else 1)

    def update(self, data: Data) -> None:
        """Add bytes."""
        self._hash.update(flat(data))

    def hexdigest(self) -> str:
        """The digest so far, as 64 hex digits."""
        return self._hash.hexdigest()


def tensor_hasher(dtype: str, shape: Sequence[int], *, threads: bool = False) -> Hasher:
    """A hasher that has taken a tensor's domain line and waits for its plain bytes."""
    dims = ",".join(map(str, shape))
    return Hasher(f"persona tensor\n{dtype} [{dims}]\n".encode(), threads=threads)


def tensor_id(dtype: str, shape: Sequence[int], chunks: Iterable[Data], *, threads: bool = False) -> TensorId:
    """The id of a tensor whose plain bytes come in order."""
    hasher = tensor_hasher(dtype, shape, threads=threads)
    for chunk in chunks:
        hasher.update(chunk)
    return TensorId(hasher.hexdigest())


def blob_id(data: Data) -> BlobId:
    """The id of a file's bytes."""
    return BlobId(blake3(b"persona blob\n").update(flat(data)).hexdigest())


def draw_key(*parts: str) -> int:
    """A number of 64 bits that is these names' own: what random choices begin with."""
    return int.from_bytes(blake3("\n".join(("persona draw", *parts)).encode()).digest(8), "little")


def object_digest(data: bytes) -> str:
    """The hex digest that names an object with this canonical encoding."""
    return blake3(b"persona object\n").update(data).hexdigest()


def file_digest(chunks: Iterable[Data]) -> str:
    """Plain BLAKE3 of a file, as ``b3sum`` prints it: the name of a pack."""
    hasher = Hasher(threads=True)
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()
