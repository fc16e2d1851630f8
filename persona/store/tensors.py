"""Tensors and blobs by id: every byte is checked on reading, and each is written once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from persona.checkpoints.dtypes import BITS
from persona.errors import Damaged, Storage, UsageError
from persona.files import translated
from persona.ids import BlobId, Id, TensorId, blob_id, tensor_hasher, tensor_id
from persona.progress import Task
from persona.store import codecs, compression, kept, packs
from persona.store.kept import AdoptedFile, Keep
from persona.store.packs import BLOCK, StoredBlob, StoredTensor, Volume
from persona.store.packwriter import Incoming, PackSummary, PackWriter
from persona.threads import in_order

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

    Room = Callable[[int, int], Bits]
    """Returns a buffer for (entries, bytes per entry); it may be the same buffer each time."""

__all__ = ["AdoptedFile", "Description", "Incoming", "PackSummary", "PackWriter", "TensorStore"]


T = TypeVar("T")
Stored = TypeVar("Stored", StoredTensor, StoredBlob)


@dataclass(frozen=True)
class Description:
    """A tensor and how it is stored.

    ``base`` is the tensor that it is stored as a difference to, ``pack`` the name of its file.
    """

    id: TensorId
    dtype: str
    shape: tuple[int, ...]
    codecs: tuple[str, ...]
    base: TensorId | None
    stored_bytes: int
    pack: str


class TensorStore:
    """The ``packs`` folder of a repository; safe to read from several threads.

    The folder is first read when an id is looked up, and read again when an id is missing. Files whose names are in
    ``ignored`` are treated as absent.
    """

    def __init__(self, packs: Path, tmp: Path, ignored: Container[str] = ()) -> None:
        self.packs = packs
        self.tmp = tmp
        self._ignored = ignored
        self.damaged: dict[Path, Damaged] = {}
        self._volumes: dict[str, Volume] = {}
        self._tensors: dict[TensorId, Volume] = {}
        self._blobs: dict[BlobId, Volume] = {}
        self._lock = threading.RLock()
        self._lent: dict[Id, Volume] = {}

    def lend_tensor(self, dtype: str, shape: tuple[int, ...], bits: Bits) -> TensorId:
        """Make a tensor in memory readable like a stored one, as long as this object lives, and return its id."""
        data = memoryview(bits.reshape(-1).view("u1").data).toreadonly()
        name = tensor_id(dtype, shape, [data], threads=True)
        width = max(BITS[dtype], 8) // 8
        count = len(data) // width
        sizes = tuple(width * min(BLOCK, count - start) for start in range(0, count, BLOCK))
        stored = StoredTensor(name, dtype, shape, None, BLOCK, 0, ("raw",) * len(sizes), sizes)
        if name not in self:
            self._lent[name] = packs.Lent({name: stored}, {}, data)
        return name

    def lend_blob(self, data: bytes) -> BlobId:
        """Make a blob in memory readable like a stored one, as long as this object lives, and return its id."""
        name = blob_id(data)
        if not self.has_blob(name):
            stored = StoredBlob(name, 0, len(data), len(data), zstd=False)
            self._lent[name] = packs.Lent({}, {name: stored}, memoryview(data))
        return name

    def __contains__(self, name: TensorId) -> bool:
        return self._place(name, "tensor") is not None

    def has_blob(self, name: BlobId) -> bool:
        """Whether a blob is stored."""
        return self._place(name, "blob") is not None

    def describe(self, name: TensorId) -> Description:
        """A tensor and how it is stored; Damaged if it is missing."""
        volume, stored = self._find(name)
        used = tuple(sorted(set(stored.codecs)))
        return Description(name, stored.dtype, stored.shape, used, stored.base, stored.stored, volume.path.name)

    def volumes(self) -> list[Volume]:
        """Every readable file; the others are in ``damaged``."""
        self.refresh()
        return [self._volumes[name] for name in sorted(self._volumes)]

    def blocks(self, name: TensorId, entries: int = BLOCK, room: Room | None = None) -> Iterator[Bits]:
        """Read a tensor in consecutive blocks of ``entries`` entries (the last may be shorter). Do not write into them.

        The last block is yielded only after the whole tensor has matched its id.

        Args:
            room: Returns a buffer that blocks may be decoded into, so that memory is reused without page faults.
                Each block is then valid only until the next one.

        Raises:
            Damaged: the tensor is missing or does not match its id.
        """
        return self.blocks_in(self._opened(name, "tensor"), name, entries, room)

    def blocks_in(
        self, volume: Volume, name: TensorId, entries: int = BLOCK, room: Room | None = None
    ) -> Iterator[Bits]:
        """Like :meth:`blocks`, but read the copy in ``volume``."""
        return self._checked_blocks(volume, volume.tensors[name], entries, room)

    def read(self, name: TensorId) -> Bits:
        """Read a whole tensor as a flat array.

        Raises:
            Damaged: the tensor is missing or does not match its id.
        """
        volume, stored = self._find(name)
        bits = self._whole(volume, stored)
        hasher = tensor_hasher(stored.dtype, stored.shape, threads=True)
        hasher.update(bits.view("u1").data)
        if hasher.hexdigest() != name:
            raise _mismatch("tensor", name, volume)
        return bits

    def blob(self, name: BlobId) -> bytes:
        """Read a blob; Damaged if it is missing or does not match its id."""
        return self.blob_in(self._opened(name, "blob"), name)

    def blob_size(self, name: BlobId) -> int:
        """Size of a blob in bytes, without reading it; Damaged if it is missing."""
        return self._opened(name, "blob").blobs[name].length

    def blob_in(self, volume: Volume, name: BlobId) -> bytes:
        """Like :meth:`blob`, but read the copy in ``volume``."""
        stored = volume.blobs[name]
        data = self._from(volume, stored, lambda volume, stored: volume.part(stored.at, stored.stored))
        if stored.zstd:
            try:
                data = compression.expand(data, stored.length)
            except ValueError as error:
                raise _mismatch("blob", name, volume) from error
        if blob_id(data) != name:
            raise _mismatch("blob", name, volume)
        return data

    def file_of(self, name: TensorId) -> Path | None:
        """The file that holds a tensor; None if it is in memory."""
        volume = self._find(name)[0]
        return None if isinstance(volume, packs.Lent) else volume.path

    def source(self, name: TensorId) -> tuple[StoredTensor, Path, Callable[[int, int], Bits]]:
        """A tensor's index entry, its file, and a function that reads entries from start to stop without checking."""
        volume, stored = self._find(name)
        return stored, volume.path, partial(self._entries, volume, stored)

    def adopt_safetensors(self, path: Path, task: Task, keep: Keep = "copy") -> AdoptedFile:
        """Store a safetensors file unchanged, unless it is already stored."""
        return kept.adopt(path, self.packs, self.tmp, task, keep=keep)

    def writer(self, like: Iterable[Path] = ()) -> PackWriter:
        """Start writing packs, which nobody else may read who may not read one of the files ``like``."""
        self.refresh()  # the writer skips what is stored, so it needs the current state
        return PackWriter(self, like)

    def refresh(self) -> None:
        """Read the folder again: open new files and forget deleted ones."""
        with self._lock:
            for _ in range(3):  # a file deleted during the scan may have been replaced by a new one
                if self._look():
                    break

    def _look(self) -> bool:
        present = {path.name: path for path in _index_files(self.packs) if path.name not in self._ignored}
        gone, new = self._volumes.keys() - present.keys(), present.keys() - self._volumes.keys()
        for name in gone:
            del self._volumes[name]
        self.damaged = {}
        deleted = [name for name in sorted(new) if not self._open(present[name])]
        if gone or new:
            self._tensors = _tensor_places(self._volumes.values())
            self._blobs = {blob: volume for volume in self._volumes.values() for blob in volume.blobs}
        return not deleted

    def _open(self, path: Path) -> bool:
        """Read a file's index; False if it was deleted after the folder was listed."""
        try:
            self._volumes[path.name] = packs.open_pack(path) if path.suffix == ".pack" else kept.open_kept(path)
        except Damaged as error:
            self.damaged[path] = error
        except UsageError as error:  # a folder or a pipe in its place
            self.damaged[path] = Damaged(error.message, packs.RESTORE)
        except Storage as error:
            if path.exists():
                raise
            if not path.is_symlink():
                return False
            self.damaged[path] = Damaged(error.message, packs.RESTORE)  # a link to nothing
        return True

    def _from(self, volume: Volume, stored: Stored, read: Callable[[Volume, Stored], T]) -> T:
        """Read part of a file. If it was closed and a collection deleted it meanwhile, its frames are in another one."""
        try:
            return read(volume, stored)
        except FileNotFoundError:
            other = self._opened(stored.id, "blob" if isinstance(stored, StoredBlob) else "tensor")
            found: Any = other.blobs[stored.id] if isinstance(stored, StoredBlob) else other.tensors[stored.id]
            if replace(found, at=stored.at) != stored:  # another copy, in other frames
                raise _mismatch(type(stored).__name__.removeprefix("Stored").lower(), stored.id, volume) from None
            return read(other, found)

    def _find(self, name: TensorId) -> tuple[Volume, StoredTensor]:
        volume = self._opened(name, "tensor")
        return volume, volume.tensors[name]

    def _opened(self, name: Id, kind: str) -> Volume:
        """The file that holds ``name``, opened: if it was deleted, another one that holds it."""
        if name in self._lent:  # only for reading: a writer must not take it for stored
            return self._lent[name]
        for _ in range(2):
            volume = self._place(name, kind)
            if volume is None:
                break
            try:
                _ = volume.file
            except FileNotFoundError:
                if volume.is_outside:  # its list still exists and may have changed: read it again
                    self._volumes.pop(volume.index.name, None)
                self.refresh()
            else:
                return volume
        raise self._missing(name, kind)

    def _place(self, name: Id, kind: str) -> Volume | None:
        for attempt in range(2):
            places: Mapping[Any, Volume] = self._tensors if kind == "tensor" else self._blobs
            if name in places or attempt:
                return places.get(name)
            self.refresh()
        return None

    def _missing(self, name: Id, kind: str) -> Damaged:
        broken = "".join(f"; {error.message}" for error in self.damaged.values())
        hint = next((error.hint for error in self.damaged.values()), packs.RESTORE)
        return Damaged(f"{kind} {name} is missing: no file in {self.packs} holds it{broken}", hint)

    def _checked_blocks(self, volume: Volume, stored: StoredTensor, entries: int, room: Room | None) -> Iterator[Bits]:
        hasher, left = tensor_hasher(stored.dtype, stored.shape), stored.units
        for block in _reblocked(self._pieces(volume, stored, entries, room), entries):
            hasher.update(block.view("u1").data)
            left -= len(block)
            if left == 0 and hasher.hexdigest() != stored.id:
                raise _mismatch("tensor", stored.id, volume)
            yield block
        if left or (stored.units == 0 and hasher.hexdigest() != stored.id):
            raise _mismatch("tensor", stored.id, volume)

    def _pieces(self, volume: Volume, stored: StoredTensor, entries: int, room: Room | None) -> Iterator[Bits]:
        """A tensor's frames; raw ones, which may be as long as the tensor, in pieces of at most ``entries``."""
        reuse = room if stored.block == entries or stored.codecs == ("raw",) else None  # then pieces are whole blocks
        for number, codec in enumerate(stored.codecs):
            count = stored.frame_units(number)
            step = entries if codec == "raw" else max(count, 1)
            for start in range(0, max(count, 1), step):
                length = min(step, count - start)
                out = reuse(length, stored.width) if reuse else None
                if codec == "raw":
                    yield self._raw(volume, stored, number, start, length, out)
                else:
                    yield self._frame(volume, stored, number, out)

    def _whole(self, volume: Volume, stored: StoredTensor) -> Bits:
        import numpy as np

        try:
            bits: Bits = np.empty(stored.units, f"<u{stored.width}")
        except (MemoryError, ValueError) as error:
            raise _mismatch("tensor", stored.id, volume, f": {stored.units:,} entries do not fit in memory") from error

        def fill(number: int) -> None:
            part = bits[number * stored.block :][: stored.block]
            frame = self._frame(volume, stored, number, part)
            if frame is not part:
                part[:] = frame

        frames = range(len(stored.sizes))
        for _ in map(fill, frames) if len(frames) == 1 else in_order(fill, frames):  # starting threads takes longer
            pass
        return bits

    def _entries(self, volume: Volume, stored: StoredTensor, start: int, stop: int) -> Bits:
        """Entries from start to stop, without checking them."""
        import numpy as np

        first, last = start // stored.block, max(start, stop - 1) // stored.block
        if first == last and stored.codecs[first] == "raw":
            return self._raw(volume, stored, first, start - first * stored.block, stop - start)
        parts = [self._frame(volume, stored, number) for number in range(first, last + 1)]
        bits = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return bits[start - first * stored.block : stop - first * stored.block]

    def _raw(
        self, volume: Volume, stored: StoredTensor, number: int, start: int, count: int, out: Bits | None = None
    ) -> Bits:
        """``count`` entries of a raw frame from ``start``, in ``out`` or new memory, without checking them."""
        import numpy as np

        if stored.sizes[number] != stored.frame_units(number) * stored.width:
            raise _mismatch("tensor", stored.id, volume, ": a raw block does not have the length of its tensor")
        bits: Bits = np.empty(count, f"<u{stored.width}") if out is None else out
        offset = start * stored.width
        self._from(volume, stored, lambda volume, stored: volume.fill(bits, stored.offsets[number] + offset))
        return bits

    def _frame(self, volume: Volume, stored: StoredTensor, number: int, out: Bits | None = None) -> Bits:
        """The entries of one frame, in ``out`` if the codec uses it, without checking them."""
        codec, count = codecs.load(stored.codecs[number]), stored.frame_units(number)
        if stored.codecs[number] == "raw":
            return self._raw(volume, stored, number, 0, count, out)
        base = self._base_entries(volume, stored, number * stored.block, count) if codec.NEEDS_BASE else None
        payload = self._from(
            volume, stored, lambda volume, stored: volume.part(stored.offsets[number], stored.sizes[number])
        )
        try:
            return codec.decode(payload, count, stored.width, base, out)
        except ValueError as error:
            raise _mismatch("tensor", stored.id, volume, f": {error}") from error

    def _base_entries(self, volume: Volume, stored: StoredTensor, start: int, count: int) -> Bits:
        if stored.base is None:
            raise _mismatch("tensor", stored.id, volume, ": the tensor that it is a difference to is not given")
        other, base = self._find(stored.base)
        if base.base is not None or base.width != stored.width or base.units < start + count:
            raise _mismatch("tensor", stored.id, volume, f": it cannot be a difference to tensor {base.id.short}")
        return self._entries(other, base, start, start + count)


def _index_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with translated(folder):
        return [path for path in folder.iterdir() if path.suffix in (".pack", ".json")]


def _tensor_places(volumes: Iterable[Volume]) -> dict[TensorId, Volume]:
    """The file to read each tensor from: preferably one that stores it whole, since it can then serve as a base."""
    places: dict[TensorId, Volume] = {}
    for volume in volumes:
        for name, stored in volume.tensors.items():
            if name not in places or stored.base is None:
                places[name] = volume
    return places


def _reblocked(frames: Iterable[Bits], size: int) -> Iterator[Bits]:
    """Regroup entries into arrays of exactly ``size`` (the last may be shorter), as views where possible."""
    parts: list[Bits] = []
    collected = 0
    for frame in frames:
        at = 0
        while at < len(frame):
            part = frame[at : at + size - collected]
            at, collected = at + len(part), collected + len(part)
            parts.append(part)
            if collected == size:
                yield _joined(parts)
                parts, collected = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[Bits]) -> Bits:
    import numpy as np

    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _mismatch(kind: str, name: Id, volume: Volume, why: str = "") -> Damaged:
    return Damaged(f"{kind} {name} is damaged: its bytes in {volume.path} do not match its id{why}", volume.hint)
