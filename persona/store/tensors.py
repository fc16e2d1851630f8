"""Tensors and blobs by id: read with every byte checked, written once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Damaged, Storage
from persona.files import translated
from persona.ids import BlobId, Id, TensorId, blob_id, tensor_hasher
from persona.progress import Task
from persona.store import codecs, compression, kept, packs
from persona.store.kept import AdoptedFile, Keep
from persona.store.packs import BLOCK, StoredTensor, Volume
from persona.store.packwriter import Incoming, PackSummary, PackWriter
from persona.threads import in_order

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

    Room = Callable[[int, int], Bits]
    """Gives room for so many entries of so many bytes each; the same room each time."""

__all__ = ["AdoptedFile", "Description", "Incoming", "PackSummary", "PackWriter", "TensorStore"]

_RESTORE = "Copy its file back from a backup or another copy of the repository; 'persona fsck' says what it touches."


@dataclass(frozen=True)
class Description:
    """A tensor and how it is stored; ``pack`` is the name of a file in the packs folder."""

    id: TensorId
    dtype: str
    shape: tuple[int, ...]
    codecs: tuple[str, ...]
    base: TensorId | None
    stored_bytes: int
    pack: str


class TensorStore:
    """The ``packs`` folder of a repository; safe to read from several threads.

    Nothing is read before something is asked for. A file that appears later is found when an id is missing; files
    whose names are in ``ignored`` are not there.
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

    def __contains__(self, name: TensorId) -> bool:
        return self._place(name, "tensor") is not None

    def has_blob(self, name: BlobId) -> bool:
        """Whether a blob is stored."""
        return self._place(name, "blob") is not None

    def describe(self, name: TensorId) -> Description:
        """What a tensor is and how it is stored."""
        volume, stored = self._find(name)
        used = tuple(sorted(set(stored.codecs)))
        return Description(name, stored.dtype, stored.shape, used, stored.base, stored.stored, volume.path.name)

    def volumes(self) -> list[Volume]:
        """Every readable file with what it holds; the others are in ``damaged``."""
        self.refresh()
        return [self._volumes[name] for name in sorted(self._volumes)]

    def blocks(self, name: TensorId, entries: int = BLOCK, room: Room | None = None) -> Iterator[Bits]:
        """Consecutive blocks of exactly ``entries`` entries (the last may be shorter), not to be written to.

        The last block is handed out only when the whole has been found to hash to ``name``. With ``room`` a block
        may lie there, and is gone when the next one is taken: memory that stays in use costs no page faults.
        """
        return self.blocks_in(self._mapped(name, "tensor"), name, entries, room)

    def blocks_in(
        self, volume: Volume, name: TensorId, entries: int = BLOCK, room: Room | None = None
    ) -> Iterator[Bits]:
        """As :meth:`blocks`, of the copy that one file has."""
        return self._checked_blocks(volume, volume.tensors[name], entries, room)

    def read(self, name: TensorId) -> Bits:
        """A whole tensor as a flat array, checked; it may be a read-only view of the file."""
        volume, stored = self._find(name)
        bits = _joined([self._whole(volume, stored)])
        hasher = tensor_hasher(stored.dtype, stored.shape, threads=True)
        hasher.update(bits.view("u1").data)
        if hasher.hexdigest() != name:
            raise _mismatch("tensor", name, volume)
        return bits

    def blob(self, name: BlobId) -> bytes:
        """A blob's bytes, checked."""
        return self.blob_in(self._mapped(name, "blob"), name)

    def blob_in(self, volume: Volume, name: BlobId) -> bytes:
        """As :meth:`blob`, of the copy that one file has."""
        stored = volume.blobs[name]
        data = bytes(volume.part(stored.at, stored.stored))
        if stored.zstd:
            try:
                data = compression.expand(data, stored.length)
            except ValueError as error:
                raise _mismatch("blob", name, volume) from error
        if blob_id(data) != name:
            raise _mismatch("blob", name, volume)
        return data

    def source(self, name: TensorId) -> tuple[StoredTensor, Path, Callable[[int, int], Bits]]:
        """A tensor's place, and a function that gives its entries from start to stop, not checked."""
        volume, stored = self._find(name)
        return stored, volume.path, partial(self._entries, volume, stored)

    def adopt_safetensors(self, path: Path, task: Task, keep: Keep = "copy") -> AdoptedFile:
        """Keep a safetensors file as it came, unless it is there."""
        return kept.adopt(path, self.packs, self.tmp, task, keep=keep)

    def writer(self) -> PackWriter:
        """A new pack in the making; what it leaves out because it is there must be there now, not when we last looked."""
        self.refresh()
        return PackWriter(self)

    def refresh(self) -> None:
        """Look at the folder again: files that came are read, files that went are forgotten."""
        with self._lock:
            for _ in range(3):  # a file that goes while we look may have been replaced by one that came
                if self._look():
                    break

    def _look(self) -> bool:
        present = {path.name: path for path in _index_files(self.packs) if path.name not in self._ignored}
        gone, new = self._volumes.keys() - present.keys(), present.keys() - self._volumes.keys()
        for name in gone:
            del self._volumes[name]
        self.damaged = {}
        went = [name for name in sorted(new) if not self._open(present[name])]
        if gone or new:
            self._tensors = _tensor_places(self._volumes.values())
            self._blobs = {blob: volume for volume in self._volumes.values() for blob in volume.blobs}
        return not went

    def _open(self, path: Path) -> bool:
        """Read a file's index; False if it was deleted after it was listed."""
        try:
            self._volumes[path.name] = packs.open_pack(path) if path.suffix == ".pack" else kept.open_kept(path)
        except Damaged as error:
            self.damaged[path] = error
        except Storage:
            if path.exists():
                raise
            return False
        return True

    def _find(self, name: TensorId) -> tuple[Volume, StoredTensor]:
        volume = self._mapped(name, "tensor")
        return volume, volume.tensors[name]

    def _mapped(self, name: Id, kind: str) -> Volume:
        """The file that holds ``name``, mapped: from here on it can be read even if it is deleted."""
        for _ in range(2):
            volume = self._place(name, kind)
            if volume is None:
                break
            try:
                _ = volume.buffer
            except FileNotFoundError:
                if volume.is_outside:  # the list that said where it was is still there, and may say something else now
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
        hint = next((error.hint for error in self.damaged.values()), _RESTORE)
        return Damaged(f"{kind} {name} is missing: no file in {self.packs} holds it{broken}", hint)

    def _checked_blocks(self, volume: Volume, stored: StoredTensor, entries: int, room: Room | None) -> Iterator[Bits]:
        hasher, left = tensor_hasher(stored.dtype, stored.shape), stored.units
        if stored.block != entries:
            room = None  # a block may then consist of several frames
        frames = (
            self._frame(volume, stored, k, room(stored.frame_units(k), stored.width) if room else None)
            for k in range(len(stored.sizes))
        )
        for block in _reblocked(frames, entries):
            hasher.update(block.view("u1").data)
            left -= len(block)
            if left == 0 and hasher.hexdigest() != stored.id:
                raise _mismatch("tensor", stored.id, volume)
            yield block
        if left or (stored.units == 0 and hasher.hexdigest() != stored.id):
            raise _mismatch("tensor", stored.id, volume)

    def _whole(self, volume: Volume, stored: StoredTensor) -> Bits:
        import numpy as np

        if len(stored.sizes) == 1:
            return self._frame(volume, stored, 0)
        try:
            bits: Bits = np.empty(stored.units, f"<u{stored.width}")
        except (MemoryError, ValueError) as error:
            raise _mismatch("tensor", stored.id, volume, f": {stored.units:,} entries do not fit in memory") from error

        def fill(number: int) -> None:
            part = bits[number * stored.block :][: stored.block]
            frame = self._frame(volume, stored, number, part)
            if frame is not part:
                part[:] = frame

        for _ in in_order(fill, range(len(stored.sizes))):
            pass
        return bits

    def _entries(self, volume: Volume, stored: StoredTensor, start: int, stop: int) -> Bits:
        """Entries from start to stop, not checked."""
        import numpy as np

        first, last = start // stored.block, max(start, stop - 1) // stored.block
        parts = [self._frame(volume, stored, number) for number in range(first, last + 1)]
        bits = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return bits[start - first * stored.block : stop - first * stored.block]

    def _frame(self, volume: Volume, stored: StoredTensor, number: int, out: Bits | None = None) -> Bits:
        """The entries of one frame, perhaps in ``out``, not checked; ``volume`` is mapped."""
        codec, count = codecs.load(stored.codecs[number]), stored.frame_units(number)
        base = self._base_entries(volume, stored, number * stored.block, count) if codec.NEEDS_BASE else None
        payload = volume.part(stored.offsets[number], stored.sizes[number])
        try:
            return codec.decode(payload, count, stored.width, base, out)
        except ValueError as error:
            raise _mismatch("tensor", stored.id, volume, f": {error}") from error

    def _base_entries(self, volume: Volume, stored: StoredTensor, start: int, count: int) -> Bits:
        if stored.base is None:
            raise _mismatch("tensor", stored.id, volume, ": it names no tensor that it differs from")
        other, base = self._find(stored.base)
        if base.base is not None or base.width != stored.width or base.units < start + count:
            raise _mismatch("tensor", stored.id, volume, f": it cannot differ from tensor {base.id.short}")
        return self._entries(other, base, start, start + count)


def _index_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with translated(folder):
        return [path for path in folder.iterdir() if path.suffix in (".pack", ".json")]


def _tensor_places(volumes: Iterable[Volume]) -> dict[TensorId, Volume]:
    """Where each tensor is read from: of several places one without a base, for it can serve as a base."""
    places: dict[TensorId, Volume] = {}
    for volume in volumes:
        for name, stored in volume.tensors.items():
            if name not in places or stored.base is None:
                places[name] = volume
    return places


def _reblocked(frames: Iterable[Bits], size: int) -> Iterator[Bits]:
    """The same entries in arrays of exactly ``size`` (the last may be shorter), views where they can be."""
    parts: list[Bits] = []
    have = 0
    for frame in frames:
        at = 0
        while at < len(frame):
            part = frame[at : at + size - have]
            at, have = at + len(part), have + len(part)
            parts.append(part)
            if have == size:
                yield _joined(parts)
                parts, have = [], 0
    if parts:
        yield _joined(parts)


def _joined(parts: list[Bits]) -> Bits:
    """One array, aligned for its type."""
    import numpy as np

    if len(parts) > 1:
        return np.concatenate(parts)
    return parts[0] if parts[0].flags.aligned else parts[0].copy()


def _mismatch(kind: str, name: Id, volume: Volume, why: str = "") -> Damaged:
    return Damaged(f"{kind} {name} is damaged: its bytes in {volume.path} do not give its id{why}", volume.hint)
