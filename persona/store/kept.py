"""Safetensors files kept as they came: any other tool can open them, and they are mapped without a copy.

    packs/<BLAKE3 of the file>.safetensors the file, byte for byte
    packs/<the same>.json                  canonical JSON {version, tensors: [tensor id]}, in header order

The second is written last: a file without it is not there. It is not believed: every read is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.checkpoints.tensorfile import CHUNK, TensorFile, TensorInfo
from persona.errors import CheckpointError, Damaged, Storage
from persona.ids import Hasher, TensorId, tensor_hasher
from persona.progress import Task
from persona.store.objects import canonical
from persona.store.packs import StoredTensor, Volume, damaged, units

VERSION = 1
"""Of the list of ids; a reader refuses what is newer."""


@dataclass(frozen=True)
class AdoptedFile:
    """A safetensors file that the store keeps: its name in ``packs`` and its tensors' ids by name."""

    name: str
    tensors: Mapping[str, TensorId]


def open_kept(path: Path) -> Volume:
    """The safetensors file whose list of ids is at ``path``."""
    data = path.with_suffix(".safetensors")
    try:
        ids = _parse_ids(path)
        infos = list(TensorFile(data).tensors.values())
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(path, f"is not a list of tensor ids: {error}") from error
    except CheckpointError as error:
        raise damaged(data, f"is damaged: {error.message}") from error
    except Storage:
        if path.exists() and not data.exists():
            raise damaged(data, "is missing") from None
        raise
    if len(ids) != len(infos):
        raise damaged(path, f"lists {len(ids)} tensors, and {data.name} has {len(infos)}")
    tensors = {name: _stored(name, info) for name, info in zip(ids, infos, strict=True)}
    return Volume(data, tensors, {})


def _parse_ids(path: Path) -> list[TensorId]:
    with files.translated(path):
        fields = json.loads(path.read_bytes())
    if fields["version"] > VERSION:
        raise Damaged(
            f"{path} was written by a newer persona (version {fields['version']})",
            "Upgrade persona to read this repository.",
        )
    return [TensorId(name) for name in fields["tensors"]]


def _stored(name: TensorId, info: TensorInfo) -> StoredTensor:
    """A kept tensor is one raw frame as long as itself."""
    block = max(1, units(info.dtype, info.shape))
    return StoredTensor(name, info.dtype, info.shape, None, block, info.start, ("raw",), (info.nbytes,))


def adopt(path: Path, packs: Path, tmp: Path, task: Task, *, again: bool = False) -> AdoptedFile:
    """Keep the safetensors file at ``path`` in ``packs``; if it is there, only when it is to be written ``again``."""
    source = TensorFile(path)
    known = None if again else _same_file(path, source.size, packs)
    if known is not None:
        task.advance(source.size)
        return known
    files.make_folder(packs)
    files.make_folder(tmp)
    with files.Staged(tmp, "safetensors") as staged:
        digest, ids = _take_in(source, staged, task)
        staged.publish(packs / f"{digest}.safetensors")
    with files.Staged(tmp, "ids") as staged:
        staged.write(canonical({"version": VERSION, "tensors": list(ids.values())}))
        staged.publish(packs / f"{digest}.json")
    return AdoptedFile(f"{digest}.safetensors", ids)


def _same_file(path: Path, size: int, packs: Path) -> AdoptedFile | None:
    """The kept file with the same bytes; only files of the same size are a reason to read ``path`` for it."""
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
        return AdoptedFile(
            f"{name.stem}.safetensors", dict(zip(TensorFile(path).tensors, _parse_ids(name), strict=True))
        )
    except (ValueError, TypeError, KeyError, Damaged):
        return None


def _take_in(source: TensorFile, staged: files.Staged, task: Task) -> tuple[str, dict[str, TensorId]]:
    """Copy the file and hash the very bytes that are written: its digest, and its tensors' ids."""
    cloned = staged.clone_from(source.path)
    whole, parts = Hasher(threads=True), _TensorHashers(source)
    at = 0
    with ThreadPoolExecutor(1, "persona-copy") as pool:
        for chunk in _chunks(staged.path if cloned else source.path):
            writing = None if cloned else pool.submit(_write, staged, at, chunk)
            whole.update(chunk)
            parts.update(at, chunk)
            _finish(writing)
            at += len(chunk)
            task.advance(len(chunk))
    if not _is_laid_out_like(source, staged.path):
        raise CheckpointError(
            f"{source.path} changed while it was being read",
            "Wait until whatever writes it is done, and run the command again; nothing was recorded.",
        )
    return whole.hexdigest(), parts.ids()


def _is_laid_out_like(source: TensorFile, path: Path) -> bool:
    try:
        stored = TensorFile(path)
    except CheckpointError:
        return False
    return stored.size == source.size and list(stored.tensors.values()) == list(source.tensors.values())


def _chunks(path: Path) -> Iterator[memoryview]:
    """The file in pieces; each is valid until the next one is taken."""
    buffer = memoryview(bytearray(CHUNK))
    with files.translated(path), path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            yield buffer[:length]


def _write(staged: files.Staged, at: int, chunk: memoryview) -> None:
    staged.write(chunk)
    staged.start_writeback(at, len(chunk))


def _finish(writing: Future[None] | None) -> None:
    if writing is not None:
        writing.result()


class _TensorHashers:
    """Ids of a file's tensors from the file's bytes in order."""

    def __init__(self, source: TensorFile) -> None:
        self._names = list(source.tensors)
        self._hashers = {
            info.name: tensor_hasher(info.dtype, info.shape, threads=True) for info in source.tensors.values()
        }
        self._queue = sorted(source.tensors.values(), key=lambda info: (info.stop, info.start), reverse=True)

    def update(self, at: int, chunk: memoryview) -> None:
        """The file's bytes from offset ``at``."""
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
