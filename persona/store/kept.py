"""Safetensors files stored unchanged: other tools can open them, too.

    packs/<BLAKE3 of the file>.safetensors the file, byte for byte: a copy, or a hard link to the user's file
    packs/<the same>.json                  its tensor ids in header order, see ``lists``

The list is written last; a file without one is ignored. A list may also hold the path of a user's file that the
store only references. Every read is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from persona import files
from persona.checkpoints.tensorfile import CHUNK, TensorFile, TensorInfo, changed_while_read
from persona.errors import CheckpointError, Damaged, Storage, UsageError
from persona.ids import Hasher, TensorId, tensor_hasher
from persona.progress import Task
from persona.store import lists
from persona.store.lists import ExternalFile
from persona.store.packs import StoredTensor, Volume, damaged, units

Keep = Literal["copy", "link", "reference"]
"""How to keep a file: a copy (a clone where the file system can), a hard link, or only its path and hashes."""


@dataclass(frozen=True)
class AdoptedFile:
    """A stored safetensors file: its name in ``packs`` and its tensor ids by tensor name."""

    name: str
    tensors: Mapping[str, TensorId]


def open_kept(path: Path) -> Volume:
    """Open the safetensors file whose list of ids is at ``path``.

    Raises:
        Damaged: the list or the file is damaged, missing or does not match the other.
    """
    try:
        listed = lists.read(path)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(path, f"is not a list of tensor ids: {error}") from error
    file = _open_outside(listed.outside) if listed.outside else _open_inside(path)
    infos = list(file.tensors.values())
    if len(listed.ids) != len(infos):
        raise damaged(path, f"lists {len(listed.ids)} tensors but {file.path} has {len(infos)}")
    tensors = {name: _stored(name, info) for name, info in zip(listed.ids, infos, strict=True)}
    return Volume(file.path, tensors, {}, path)


def _open_inside(path: Path) -> TensorFile:
    data = path.with_suffix(".safetensors")
    try:
        return TensorFile(data)
    except CheckpointError as error:
        raise damaged(data, f"is damaged: {error.message}") from error
    except Storage:
        if path.exists() and not data.exists():
            raise damaged(data, "is missing") from None
        raise


def _open_outside(outside: ExternalFile) -> TensorFile:
    if outside.wrong:
        raise Damaged(f"{outside.path} {outside.wrong}", lists.PUT_BACK)
    try:
        return TensorFile(outside.path)
    except (CheckpointError, Storage, UsageError) as error:
        raise Damaged(f"{outside.path} has changed or cannot be read: {error.message}", lists.PUT_BACK) from error


def _stored(name: TensorId, info: TensorInfo) -> StoredTensor:
    """The index entry of a tensor in a safetensors file: one raw frame."""
    block = max(1, units(info.dtype, info.shape))
    return StoredTensor(name, info.dtype, info.shape, None, block, info.start, ("raw",), (info.nbytes,))


def adopt(path: Path, packs: Path, tmp: Path, task: Task, *, keep: Keep = "copy", again: bool = False) -> AdoptedFile:
    """Store the safetensors file at ``path`` in ``packs``.

    Args:
        keep: Copy, hard-link or only reference the file.
        again: Write the file even if it is already stored.

    Raises:
        CheckpointError: the file is not valid safetensors.
        Storage: it cannot be read, or changed while it was being read.
    """
    source = TensorFile(path)
    known = None if again else _same_file(path, source.size, packs)
    if known is not None:
        task.advance(source.size)
        return known
    files.make_folder(packs)
    files.make_folder(tmp)
    digest, ids, outside = _KEEPERS[keep](source, packs, tmp, task)
    with files.Staged(tmp, "ids") as staged:
        staged.write(lists.encode(ids.values(), outside))
        staged.publish(packs / f"{digest}.json")
    return AdoptedFile(f"{digest}.safetensors", ids)


def _same_file(path: Path, size: int, packs: Path) -> AdoptedFile | None:
    """The stored file with the same bytes; ``path`` is read only if a stored file has the same size."""
    kept = packs.glob("*.safetensors") if packs.is_dir() else ()
    if not any(other.stat().st_size == size for other in kept):
        return None
    hasher = Hasher(threads=True)
    for chunk in _chunks(path):
        hasher.update(chunk)
    name = packs / f"{hasher.hexdigest()}.json"
    if not (name.exists() and name.with_suffix(".safetensors").exists()):
        return None
    try:
        listed = lists.read(name)
        return AdoptedFile(f"{name.stem}.safetensors", dict(zip(TensorFile(path).tensors, listed.ids, strict=True)))
    except (ValueError, TypeError, KeyError, Damaged):
        return None


_Result = tuple[str, dict[str, TensorId], ExternalFile | None]
"""Digest of the file, tensor ids by name, and the file if it is only referenced."""


def _copy(source: TensorFile, packs: Path, tmp: Path, task: Task) -> _Result:
    """Copy the file, hashing the bytes that are written."""
    with files.Staged(tmp, "safetensors") as staged:
        staged.narrow([source.path])
        cloned = staged.clone_from(source.path)
        reading = staged.path if cloned else source.path
        digest, ids = _hashed(source, reading, task, None if cloned else partial(_write, staged))
        _check_unchanged(source, staged.path)
        staged.publish(packs / f"{digest}.safetensors")
    return digest, ids, None


def _link(source: TensorFile, packs: Path, tmp: Path, task: Task) -> _Result:
    """Hard-link the file, and hash the link: the path could be replaced in the meantime."""
    with files.linked(source.path, tmp) as path:
        digest, ids = _hashed(source, path, task)
        _check_unchanged(source, path)
        files.sync_file(path)
        files.rename(path, packs / f"{digest}.safetensors")
    return digest, ids, None


def _refer(source: TensorFile, packs: Path, tmp: Path, task: Task) -> _Result:
    """Hash the file in place."""
    digest, ids = _hashed(source, source.path, task)
    _check_unchanged(source, source.path)
    return digest, ids, ExternalFile(source.path.parent.resolve() / source.path.name, source.size)


_KEEPERS: Mapping[Keep, Callable[[TensorFile, Path, Path, Task], _Result]] = {
    "copy": _copy,
    "link": _link,
    "reference": _refer,
}


def _hashed(
    source: TensorFile, path: Path, task: Task, write: Callable[[int, memoryview], None] | None = None
) -> tuple[str, dict[str, TensorId]]:
    """The digest and tensor ids of the file at ``path``, read once; ``write`` receives each (offset, chunk)."""
    whole, parts = Hasher(threads=True), _TensorHashers(source)
    at = 0
    with ThreadPoolExecutor(1, "persona-copy") as pool:
        for chunk in _chunks(path):
            writing = pool.submit(write, at, chunk) if write else None
            whole.update(chunk)
            parts.update(at, chunk)
            if writing:
                writing.result()
            at += len(chunk)
            task.advance(len(chunk))
    return whole.hexdigest(), parts.ids()


def _check_unchanged(source: TensorFile, path: Path) -> None:
    """Raise unless the file at ``path`` still has the header and the size of ``source``."""
    try:
        stored = TensorFile(path)
    except CheckpointError:
        raise changed_while_read(source.path) from None
    if stored.size != source.size or list(stored.tensors.values()) != list(source.tensors.values()):
        raise changed_while_read(source.path)


def _chunks(path: Path) -> Iterator[memoryview]:
    """The file in chunks; each is valid until the next one is read."""
    buffer = memoryview(bytearray(CHUNK))
    with files.translated(path), files.opened(path) as file:
        while length := file.readinto(buffer):
            yield buffer[:length]


def _write(staged: files.Staged, at: int, chunk: memoryview) -> None:
    staged.write(chunk)
    staged.start_writeback(at, len(chunk))


class _TensorHashers:
    """Computes the ids of a file's tensors from its bytes in order."""

    def __init__(self, source: TensorFile) -> None:
        self._names = list(source.tensors)
        self._hashers = {
            info.name: tensor_hasher(info.dtype, info.shape, threads=True) for info in source.tensors.values()
        }
        self._queue = sorted(source.tensors.values(), key=lambda info: (info.stop, info.start), reverse=True)

    def update(self, at: int, chunk: memoryview) -> None:
        """Add the next bytes, which start at offset ``at``."""
        end = at + len(chunk)
        while self._queue and self._queue[-1].start < end:
            info = self._queue[-1]
            part = chunk[max(info.start - at, 0) : max(info.stop - at, 0)]
            self._hashers[info.name].update(part)
            if info.stop > end:
                break
            self._queue.pop()

    def ids(self) -> dict[str, TensorId]:
        """The ids, in header order."""
        return {name: TensorId(self._hashers[name].hexdigest()) for name in self._names}
