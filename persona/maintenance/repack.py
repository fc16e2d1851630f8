"""Copy parts of packs into a new one, frame by frame, without decoding."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from persona import files
from persona.ids import Hasher
from persona.store import packs
from persona.store.packs import BLOCK, HEAD_SIZE, StoredBlob, StoredTensor, Volume

CHUNK = 1 << 20

Part = tuple[Volume, StoredTensor | StoredBlob]


def copy_frames(sources: Iterable[tuple[Volume, Container[str]]], folder: Path, tmp: Path) -> Path | None:
    """Write the wanted tensors and blobs of packs to a new pack in ``folder``; return None if there are none.

    The pack is durable on return. Frames keep their codecs, so a delta keeps its base. The same request writes the same
    bytes under the same name, so an interrupted copy can be repeated.

    Args:
        sources: Packs with the same number of entries per block, each with the ids that are wanted of it.
    """
    parts = [part for volume, wanted in sources for part in _wanted(volume, wanted)]
    if not parts:
        return None
    files.make_folder(tmp)
    with files.Staged(tmp, "pack") as staged:
        staged.narrow({volume.path for volume, _ in parts})
        hasher = Hasher(threads=True)
        for chunk in _bytes(parts):
            staged.write(chunk)
            hasher.update(chunk)
        path = folder / f"{hasher.hexdigest()}.pack"
        staged.publish(path)
    return path


def block_of(volume: Volume) -> int:
    """Return the entries per block of a pack; that of new packs if it has no tensors."""
    return next((tensor.block for tensor in volume.tensors.values()), BLOCK)


def _wanted(volume: Volume, wanted: Container[str]) -> list[Part]:
    parts: list[StoredTensor | StoredBlob] = [*volume.tensors.values(), *volume.blobs.values()]
    chosen = sorted((part for part in parts if part.id in wanted), key=lambda part: (part.at, part.stored))
    return [(volume, part) for part in chosen]


def _bytes(parts: Sequence[Part]) -> Iterator[bytes | memoryview]:
    yield packs.head()
    at, tensors, blobs = HEAD_SIZE, list[StoredTensor](), list[StoredBlob]()
    for volume, part in parts:
        if isinstance(part, StoredTensor):
            tensors.append(replace(part, at=at))
        else:
            blobs.append(replace(part, at=at))
        for start in range(part.at, part.at + part.stored, CHUNK):
            yield volume.part(start, min(CHUNK, part.at + part.stored - start))
        at += part.stored
    block = tensors[0].block if tensors else BLOCK
    yield packs.tail(tensors, blobs, at, block)
