"""Writing one pack: blocks are encoded on all cores, frames written in order, the pack appears at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from persona import files
from persona.checkpoints.dtypes import as_bits, byte_size
from persona.errors import CheckpointError, Damaged, Refusal
from persona.ids import BlobId, Hasher, TensorId, blob_id, tensor_hasher
from persona.progress import Task
from persona.store import codecs, compression, packs
from persona.store.packs import BLOCK, StoredBlob, StoredTensor
from persona.threads import in_order

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Bits
    from persona.store.tensors import TensorStore

    Plain = tuple[TensorId, str, tuple[int, ...], npt.NDArray[np.uint8], TensorId | None]
    OnBlock = Callable[[TensorId, Bits, Bits | None], None]

GOOD_ENOUGH = 0.5
"""Share of the plain size at which no further codec is tried on a block."""

_WRITEBACK = 32 << 20


class Incoming(NamedTuple):
    """A tensor to be stored: the id it must have, its plain bytes, the tensor it may be a difference to."""

    id: TensorId
    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]
    base: TensorId | None = None
    label: str = ""


@dataclass(frozen=True)
class PackSummary:
    """What a writer published; ``name`` is None if there was nothing to write."""

    name: str | None
    tensors: int
    blobs: int
    plain_bytes: int
    stored_bytes: int


@dataclass
class _Draft:
    """A tensor whose frames are on their way."""

    item: Incoming
    base: _Base | None
    at: int = 0
    codecs: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Base:
    """The tensor that another is stored against."""

    stored: StoredTensor
    path: Path
    entries: Callable[[int, int], Bits]
    hasher: Hasher


@dataclass(frozen=True)
class _Job:
    draft: _Draft
    bits: Bits
    base: Bits | None


class PackWriter:
    """One pack in the making; used as a context manager, it vanishes unless :meth:`finish` was reached."""

    def __init__(self, store: TensorStore) -> None:
        self._store = store
        self._staged: files.Staged | None = None
        self._hasher = Hasher()
        self._at = self._flushed = self._plain = 0
        self._tensors: dict[TensorId, StoredTensor] = {}
        self._blobs: dict[BlobId, StoredBlob] = {}
        self._open = True

    def add_blob(self, data: bytes) -> BlobId:
        """Keep a file's bytes; its id."""
        name = blob_id(data)
        if name in self._blobs or self._store.has_blob(name):
            return name
        packed = compression.compress(data)
        smaller = len(packed) < len(data)
        at = self._write(packed if smaller else data)
        self._blobs[name] = StoredBlob(name, at, len(data), self._at - at, smaller)
        self._plain += len(data)
        return name

    def add_tensors(self, items: Iterable[Incoming | Plain], task: Task, on_block: OnBlock | None = None) -> None:
        """Encode and write tensors; those that the store or this pack already has are skipped.

        ``on_block(id, bits, base_bits)`` is called in a worker for each block that is encoded. ``base_bits``
        is None without a base, and shorter than ``bits`` where the base has fewer rows.
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
        """Blocks in order, copied, so that what is hashed is what is encoded."""
        queued: set[TensorId] = set()
        for item in (Incoming(*item) for item in items):
            if item.id in queued or item.id in self._tensors or item.id in self._store:
                task.advance(len(item.data))
                continue
            queued.add(item.id)
            yield from self._blocks(item)

    def _blocks(self, item: Incoming) -> Iterator[_Job]:
        if len(item.data) != byte_size(item.dtype, math.prod(item.shape)):
            raise CheckpointError(f"{_label(item)} has {len(item.data)} bytes, which is not what its shape takes")
        draft = _Draft(item, self._base(item))
        hasher = tensor_hasher(item.dtype, item.shape)
        bits = as_bits(item.data, item.dtype)
        for start in range(0, max(len(bits), 1), BLOCK):
            block = bits[start : start + BLOCK].copy()
            hasher.update(block.view("u1").data)
            yield _Job(draft, block, _take_base(draft.base, start, len(block)))
        if hasher.hexdigest() != item.id:
            raise CheckpointError(
                f"{_label(item)} changed while it was being read",
                "Wait until whatever writes it is done, and run the command again; nothing was recorded.",
            )
        _check_base(draft.base)

    def _base(self, item: Incoming) -> _Base | None:
        """The base of ``item`` if it can serve: the same dtype and shape, or fewer rows of the same shape."""
        if item.base is None or item.base == item.id:
            return None
        stored, path, entries = self._store.source(item.base)
        if stored.base is not None:
            raise Refusal(
                f"{_label(item)} cannot be stored as a difference to tensor {item.base.short}, which is one",
                "A difference must be to a tensor that is stored whole: give the base checkpoint's tensor.",
            )
        rows_only = stored.shape[1:] == item.shape[1:] and stored.shape[:1] <= item.shape[:1]
        if stored.dtype != item.dtype or len(stored.shape) != len(item.shape) or not rows_only:
            return None
        return _Base(stored, path, entries, tensor_hasher(stored.dtype, stored.shape))

    def _add_frame(self, draft: _Draft, codec: str, payload: bytes) -> None:
        at = self._write(payload)
        if not draft.sizes:
            draft.at = at
        draft.codecs.append(codec)
        draft.sizes.append(len(payload))
        item = draft.item
        if len(draft.sizes) == packs.frames(packs.units(item.dtype, item.shape), BLOCK):
            differs = any(codecs.load(name).NEEDS_BASE for name in set(draft.codecs))
            base = item.base if differs else None
            self._tensors[item.id] = StoredTensor(
                item.id,
                item.dtype,
                item.shape,
                base,
                BLOCK,
                draft.at,
                tuple(draft.codecs),
                tuple(draft.sizes),
            )
            self._plain += len(item.data)

    def _write(self, data: bytes) -> int:
        """Append to the file; the offset at which ``data`` lies."""
        if not self._open:
            raise ValueError("this pack writer is closed")
        if self._staged is None:
            files.make_folder(self._store.tmp)
            self._staged = files.Staged(self._store.tmp, "pack")
            self._append(packs.head())
        at = self._at
        self._append(data)
        return at

    def _append(self, data: bytes) -> None:
        assert self._staged is not None
        self._staged.write(data)
        self._hasher.update(data)
        self._at += len(data)
        if self._at - self._flushed >= _WRITEBACK:
            self._staged.start_writeback(self._flushed, self._at - self._flushed)
            self._flushed = self._at

    def finish(self) -> PackSummary:
        """Make the pack durable and visible."""
        if not self._open:
            raise ValueError("this pack writer is closed")
        self._open = False
        name = None
        if self._staged is not None:
            self._append(packs.tail(list(self._tensors.values()), list(self._blobs.values()), self._at))
            name = f"{self._hasher.hexdigest()}.pack"
            files.make_folder(self._store.packs)
            self._staged.publish(self._store.packs / name)
        return PackSummary(name, len(self._tensors), len(self._blobs), self._plain, self._at)

    def discard(self) -> None:
        """Forget everything that was not published."""
        self._open = False
        if self._staged is not None:
            self._staged.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _label(item: Incoming) -> str:
    return item.label or f"tensor {item.id.short}"


def _take_base(base: _Base | None, start: int, length: int) -> Bits | None:
    if base is None or start >= base.stored.units:
        return None
    bits = base.entries(start, min(start + length, base.stored.units))
    base.hasher.update(bits.view("u1").data)
    return bits


def _check_base(base: _Base | None) -> None:
    """A difference to damaged bytes would be lost with them."""
    if base is not None and base.hasher.hexdigest() != base.stored.id:
        raise Damaged(
            f"tensor {base.stored.id.short} is damaged: its bytes in {base.path} do not hash to its id",
            "Nothing was stored against it. Copy the file back from another copy of the repository.",
        )


def _encode(bits: Bits, base: Bits | None) -> tuple[str, bytes]:
    """The shortest payload for a block, and its codec; those with a base are tried first."""
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
