"""Writing packs: blocks are encoded on all cores, frames are written in order, packs become visible at the end.

A writer writes one pack, or several if there is much to store; a tensor or blob is never split between packs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from persona import files
from persona.checkpoints.dtypes import BITS, as_bits, byte_size
from persona.checkpoints.tensorfile import PlainBytes, changed_while_read
from persona.errors import CheckpointError, Damaged, Refusal
from persona.ids import BlobId, Hasher, TensorId, blob_id, tensor_hasher
from persona.progress import Task
from persona.store import codecs, compression, packs
from persona.store.objects import COPY_BACK
from persona.store.packs import BLOCK, StoredBlob, StoredTensor
from persona.threads import in_order

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

    Plain = tuple[TensorId, str, tuple[int, ...], PlainBytes, TensorId | None]
    OnBlock = Callable[[TensorId, Bits, Bits | None], None]

GOOD_ENOUGH = 0.5
"""A codec that reaches this share of the plain size is used without trying the others."""

SPLIT = 4 << 30
"""Bytes after which the next tensor or blob starts a new pack, so that files stay easy to copy."""

_WRITEBACK = 32 << 20


class Incoming(NamedTuple):
    """A tensor to store.

    Attributes:
        id: The id that the bytes must have.
        data: Plain bytes, row-major, in memory or read when they are sliced.
        base: A tensor that it may be stored as a difference to.
        label: Where it comes from, for errors.
    """

    id: TensorId
    dtype: str
    shape: tuple[int, ...]
    data: PlainBytes
    base: TensorId | None = None
    label: str = ""


@dataclass(frozen=True)
class PackSummary:
    """What a writer published; ``names`` are the packs, none if there was nothing to write."""

    names: tuple[str, ...]
    tensors: int
    blobs: int
    plain_bytes: int
    stored_bytes: int


@dataclass
class _Draft:
    """A tensor of which some frames are still to be written."""

    item: Incoming
    base: _Base | None
    at: int = 0
    codecs: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Base:
    """The tensor that another is stored as a difference to."""

    stored: StoredTensor
    path: Path
    entries: Callable[[int, int], Bits]
    hasher: Hasher


@dataclass(frozen=True)
class _Job:
    draft: _Draft
    bits: Bits
    base: Bits | None


class _Pack:
    """A pack being written; it gets its name when it is sealed."""

    def __init__(self, staged: files.Staged) -> None:
        self.staged = staged
        self.name = ""
        self.at = self._flushed = 0
        self.tensors: list[StoredTensor] = []
        self.blobs: list[StoredBlob] = []
        self._hasher = Hasher()

    def append(self, data: bytes) -> int:
        """Append ``data`` and return its offset."""
        at = self.at
        self.staged.write(data)
        self._hasher.update(data)
        self.at += len(data)
        if self.at - self._flushed >= _WRITEBACK:
            self.staged.start_writeback(self._flushed, self.at - self._flushed)
            self._flushed = self.at
        return at

    def seal(self) -> None:
        """Write the index and sync the file; nothing can be added afterwards."""
        if not self.name:
            self.append(packs.tail(self.tensors, self.blobs, self.at))
            self.staged.sync()
            self.name = f"{self._hasher.hexdigest()}.pack"


class Present(Protocol):
    """The part of a store that a writer needs: where packs go and what is already stored."""

    packs: Path
    tmp: Path

    def __contains__(self, name: TensorId) -> bool:
        """Whether a tensor is stored."""

    def has_blob(self, name: BlobId) -> bool:
        """Whether a blob is stored."""

    def source(self, name: TensorId) -> tuple[StoredTensor, Path, Callable[[int, int], Bits]]:
        """A stored tensor, its file, and a function that reads its entries from start to stop."""


class PackWriter:
    """Writes packs; as a context manager, discards them unless :meth:`finish` was called.

    Args:
        store: Where packs go, and what is stored.
        like: Files that the contents come from: nobody else may read the packs who may not read one of these.
    """

    def __init__(self, store: Present, like: Iterable[Path] = ()) -> None:
        self._like = tuple(like)
        self._store = store
        self._packs: list[_Pack] = []
        self._plain = 0
        self._written: set[TensorId | BlobId] = set()
        self._open = True

    def add_blob(self, data: bytes) -> BlobId:
        """Store a file's bytes and return their id."""
        name = blob_id(data)
        if name in self._written or self._store.has_blob(name):
            return name
        packed = compression.compress(data)
        smaller = len(packed) < len(data)
        pack = self._with_room()
        at = pack.append(packed if smaller else data)
        pack.blobs.append(StoredBlob(name, at, len(data), pack.at - at, smaller))
        self._written.add(name)
        self._plain += len(data)
        return name

    def add_tensors(self, items: Iterable[Incoming | Plain], task: Task, on_block: OnBlock | None = None) -> None:
        """Encode and write tensors; those that the store or this writer already has are skipped.

        Args:
            on_block: Called in a worker thread with (id, bits, base bits) for each block. The base bits are None
                without a base, and shorter than ``bits`` where the base has fewer rows.

        Raises:
            CheckpointError: the bytes of a tensor do not match its shape.
            Storage: they do not match its id: their file changed.
            Refusal: the base of a tensor is itself stored as a difference.
            Damaged: the base of a tensor is damaged.
        """

        def work(job: _Job) -> tuple[_Job, str, bytes]:
            if on_block is not None:
                on_block(job.draft.item.id, job.bits, job.base)
            return job, *_encode(job.bits, job.base)

        try:
            for job, codec, payload in in_order(work, self._jobs(items, task)):
                self._add_frame(job.draft, codec, payload)
                task.advance(job.bits.nbytes)
        except BaseException:
            self.discard()
            raise

    def _jobs(self, items: Iterable[Incoming | Plain], task: Task) -> Iterator[_Job]:
        """Blocks in order, each read once so that exactly the hashed bytes are encoded."""
        queued: set[TensorId] = set()
        for item in (Incoming(*item) for item in items):
            if item.id in queued or item.id in self._written or item.id in self._store:
                task.advance(len(item.data))
                continue
            queued.add(item.id)
            yield from self._blocks(item)

    def _blocks(self, item: Incoming) -> Iterator[_Job]:
        if len(item.data) != byte_size(item.dtype, math.prod(item.shape)):
            raise CheckpointError(f"{_label(item)} has {len(item.data)} bytes, which does not match its shape")
        draft = _Draft(item, self._base(item))
        hasher = tensor_hasher(item.dtype, item.shape)
        width = max(BITS[item.dtype], 8) // 8
        for start in range(0, max(len(item.data), 1), BLOCK * width):
            block = as_bits(item.data[start : start + BLOCK * width], item.dtype)
            hasher.update(block.view("u1").data)
            yield _Job(draft, block, _take_base(draft.base, start // width, len(block)))
        if hasher.hexdigest() != item.id:
            raise changed_while_read(_label(item))
        _check_base(draft.base)

    def _base(self, item: Incoming) -> _Base | None:
        """The base of ``item`` if it is usable: the same dtype and shape, or fewer rows of the same shape."""
        if item.base is None or item.base == item.id:
            return None
        stored, path, entries = self._store.source(item.base)
        if stored.base is not None:
            raise Refusal(
                f"{_label(item)} cannot be stored as a difference to tensor {item.base.short}, which is a difference itself",
                "Use a base that is stored whole, such as the base checkpoint's tensor.",
            )
        rows_only = stored.shape[1:] == item.shape[1:] and stored.shape[:1] <= item.shape[:1]
        if stored.dtype != item.dtype or len(stored.shape) != len(item.shape) or not rows_only:
            return None
        return _Base(stored, path, entries, tensor_hasher(stored.dtype, stored.shape))

    def _add_frame(self, draft: _Draft, codec: str, payload: bytes) -> None:
        pack = self._packs[-1] if draft.sizes else self._with_room()
        at = pack.append(payload)
        if not draft.sizes:
            draft.at = at
        draft.codecs.append(codec)
        draft.sizes.append(len(payload))
        item = draft.item
        if len(draft.sizes) == packs.frames(packs.units(item.dtype, item.shape), BLOCK):
            pack.tensors.append(_stored(draft))
            self._written.add(item.id)
            self._plain += len(item.data)

    def _with_room(self) -> _Pack:
        """The pack for the next tensor or blob."""
        if not self._open:
            raise ValueError("this pack writer is closed")
        if self._packs and self._packs[-1].at >= SPLIT:
            self._packs[-1].seal()
        if not self._packs or self._packs[-1].name:
            files.make_folder(self._store.tmp)
            self._packs.append(_Pack(files.Staged(self._store.tmp, "pack")))
            self._packs[-1].staged.narrow(self._like)
            self._packs[-1].append(packs.head())
        return self._packs[-1]

    def finish(self) -> PackSummary:
        """Sync all packs, then publish them."""
        if not self._open:
            raise ValueError("this pack writer is closed")
        self._open = False
        for pack in self._packs:
            pack.seal()
        if self._packs:
            files.make_folder(self._store.packs)
        for pack in self._packs:
            pack.staged.publish(self._store.packs / pack.name)
        return PackSummary(
            names=tuple(pack.name for pack in self._packs),
            tensors=sum(len(pack.tensors) for pack in self._packs),
            blobs=sum(len(pack.blobs) for pack in self._packs),
            plain_bytes=self._plain,
            stored_bytes=sum(pack.at for pack in self._packs),
        )

    def discard(self) -> None:
        """Delete everything that was not published."""
        self._open = False
        for pack in self._packs:
            pack.staged.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _stored(draft: _Draft) -> StoredTensor:
    """The index entry of a tensor whose frames are all written."""
    item = draft.item
    differs = any(codecs.load(name).NEEDS_BASE for name in set(draft.codecs))
    base = item.base if differs else None
    places = draft.at, tuple(draft.codecs), tuple(draft.sizes)
    return StoredTensor(item.id, item.dtype, item.shape, base, BLOCK, *places)


def _label(item: Incoming) -> str:
    return item.label or f"tensor {item.id.short}"


def _take_base(base: _Base | None, start: int, length: int) -> Bits | None:
    if base is None or start >= base.stored.units:
        return None
    bits = base.entries(start, min(start + length, base.stored.units))
    base.hasher.update(bits.view("u1").data)
    return bits


def _check_base(base: _Base | None) -> None:
    """Refuse a damaged base: a difference to it could not be restored."""
    if base is not None and base.hasher.hexdigest() != base.stored.id:
        raise Damaged(
            f"tensor {base.stored.id.short} is damaged: its bytes in {base.path} do not match its id",
            f"Nothing was recorded. {COPY_BACK}",
        )


def _encode(bits: Bits, base: Bits | None) -> tuple[str, bytes]:
    """The codec with the shortest payload for a block, and the payload; codecs with a base are tried first."""
    whole = base is not None and len(base) == len(bits)
    best: tuple[str, bytes] | None = None
    for name in codecs.fitting(bits.itemsize, with_base=whole):
        payload = codecs.load(name).encode(bits, base if whole else None)
        if best is None or len(payload) < len(best[1]):
            best = name, payload
        if len(payload) <= GOOD_ENOUGH * bits.nbytes:
            break
    assert best is not None
    return best
