"""Check the packs folder: the index and bytes of each file, and each tensor and blob in it, decoded.

Every *copy* is checked, not every id: a reader uses the first copy that it comes to, so a damaged copy matters even
if another one is good. Work is spread over the cores by tensor, largest first, and tensors are decoded in blocks, so
memory use does not grow with the model.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from persona.checkpoints.dtypes import BITS
from persona.errors import PersonaError, Storage
from persona.files import is_short, opened, storage_error, translated
from persona.ids import BlobId, TensorId, file_digest
from persona.progress import Progress, Task
from persona.store import kept, lists, packs
from persona.store.packs import StoredBlob, StoredTensor, Volume
from persona.store.tensors import TensorStore
from persona.threads import run_all

CHUNK = 1 << 20
SET_ASIDE = ".damaged"
"""Suffix of files that a repair took out of use and that may hold the only copy of something."""

Key = tuple[str, str]
"""A copy: the name of the file with its index, and its id."""


@dataclass(frozen=True)
class Copy:
    """A tensor or blob in one file."""

    kind: Literal["tensor", "blob"]
    volume: Volume
    stored: StoredTensor | StoredBlob

    @property
    def plain(self) -> int:
        """The size in bytes when decoded."""
        if isinstance(self.stored, StoredBlob):
            return self.stored.length
        return self.stored.units * max(BITS[self.stored.dtype], 8) // 8

    @property
    def base(self) -> TensorId | None:
        """The tensor that it is stored as a delta of, or None."""
        return None if isinstance(self.stored, StoredBlob) else self.stored.base


@dataclass
class Weights:
    """The contents of the packs folder, and what is wrong with them.

    Attributes:
        files: Readable files, by the name of their index.
        unreadable: Files without a usable index, with the reason.
        unread: Sentences about files that the system does not let us read, although they may be whole.
        altered: Files whose bytes do not match their name.
        bad: Copies that do not decode to their id.
        waiting: Copies that cannot be checked because the tensor that they are a delta of is lost.
        loose: Files that are not part of the store.
        listed: Ids known only from a list, with the unusable file that it belongs to.
        read: Copies that were checked.
    """

    files: dict[str, Volume] = field(default_factory=dict)
    copies: dict[Key, Copy] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    altered: dict[str, str] = field(default_factory=dict)
    bad: dict[Key, str] = field(default_factory=dict)
    waiting: dict[Key, str] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)
    read: set[Key] = field(default_factory=set)

    def holders(self) -> dict[str, list[str]]:
        """Map each id to the files that have a copy."""
        holders: dict[str, list[str]] = {}
        for file, name in self.copies:
            holders.setdefault(name, []).append(file)
        return holders

    def good(self) -> set[str]:
        """Return the ids with at least one copy that was not found damaged."""
        faulty = {*self.bad, *self.waiting}
        return {key[1] for key in self.copies if key not in faulty and key[0] not in self.unreadable}

    def suspect(self) -> set[str]:
        """Return the files that have a fault themselves."""
        return {*self.unreadable, *self.altered, *(file for file, _ in self.bad)}


def open_all(folder: Path) -> Weights:
    """Read every index, without checking any contents."""
    weights = Weights()
    try:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        weights.unread.append(storage_error(error, folder).message)
        return weights
    for name in sorted(names):
        path = folder / name
        if path.suffix not in (".pack", ".json"):
            if path.suffix != ".safetensors" or f"{path.stem}.json" not in names:
                weights.loose.append(name)
            continue
        try:
            volume = packs.open_pack(path) if path.suffix == ".pack" else kept.open_kept(path)
        except PersonaError as error:
            if is_short(error):
                raise
            if os.path.lexists(path):
                weights.unreadable[name] = error.message
                weights.unread += [error.message] if isinstance(error, Storage) and path.exists() else []
                weights.listed |= dict.fromkeys(_listed(path), name)
            continue
        weights.files[name] = volume
        weights.copies |= {(name, tensor.id): Copy("tensor", volume, tensor) for tensor in volume.tensors.values()}
        weights.copies |= {(name, blob.id): Copy("blob", volume, blob) for blob in volume.blobs.values()}
    return weights


def _listed(path: Path) -> tuple[TensorId, ...]:
    """Return the ids that an unusable file should hold, if its list can be read."""
    if path.suffix == ".json":
        with contextlib.suppress(PersonaError, ValueError, TypeError, KeyError, RecursionError):
            return lists.read(path).ids
    return ()


def read(folder: Path, progress: Progress, share: float = 1.0, seed: int = 0) -> Weights:
    """Check the packs folder.

    Args:
        share: Share of the tensors' bytes to decode; below 1, files are not hashed either.
        seed: Random seed for choosing that share.
    """
    weights = open_all(folder)
    if share >= 1:
        _read_files(weights, progress)
    store = TensorStore(folder, folder, frozenset(weights.unreadable))
    chosen = {k: copy for k, copy in weights.copies.items() if k[0] not in weights.unreadable}
    chosen = chosen if share >= 1 else _sample(chosen, share, seed)
    check(weights, store, chosen, progress)
    _find_waiting(weights)
    return weights


def _read_files(weights: Weights, progress: Progress) -> None:
    """Hash each file; one with a read error is not read again."""
    sizes = {name: _size(volume.path) for name, volume in weights.files.items()}
    with progress.task("reading files", sum(sizes.values())) as task:
        jobs = {
            name: partial(_read_file, weights.files[name], task)
            for name in sorted(sizes, key=lambda name: -sizes[name])
        }
        for name, (unreadable, altered) in run_all(jobs).items():
            if unreadable:
                weights.unreadable[name] = unreadable
            elif altered:
                weights.altered[name] = altered


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_file(volume: Volume, task: Task) -> tuple[str, str]:
    """Return why a file cannot be read, and what is wrong with its bytes; each is empty if nothing is."""
    try:
        digest = digest_of(volume.path, task)
    except PersonaError as error:
        if is_short(error):
            raise
        return error.message if volume.path.exists() or volume.is_outside else "", ""
    if digest == volume.index.stem:
        return "", ""
    return "", f"its bytes do not match {'the recorded hash' if volume.is_outside else 'its name'}"


def digest_of(path: Path, task: Task | None = None) -> str:
    """Return the BLAKE3 of a file, and advance ``task`` by the bytes read."""

    def chunks() -> Iterator[memoryview]:
        buffer = memoryview(bytearray(CHUNK))
        with translated(path), opened(path) as file:
            while length := file.readinto(buffer):
                yield buffer[:length]
                if task is not None:
                    task.advance(length)

    return file_digest(chunks())


def _sample(copies: Mapping[Key, Copy], share: float, seed: int) -> dict[Key, Copy]:
    tensors = sorted(key for key, copy in copies.items() if copy.kind == "tensor")
    random.Random(seed).shuffle(tensors)
    wanted, chosen = share * sum(copies[key].plain for key in tensors), set[Key]()
    for key in tensors:
        if wanted <= 0:
            break
        wanted -= copies[key].plain
        chosen.add(key)
    return {key: copy for key, copy in copies.items() if key in chosen or copy.kind == "blob"}


def check(weights: Weights, store: TensorStore, copies: Mapping[Key, Copy], progress: Progress) -> None:
    """Decode and hash copies on all cores, and record in ``weights.bad`` those that do not match their id."""
    with progress.task("reading tensors", sum(copy.plain for copy in copies.values())) as task:
        jobs: dict[Key, Callable[[], str]] = {
            key: partial(_check_copy, store, copy, task)
            for key, copy in sorted(copies.items(), key=lambda item: -item[1].plain)
        }
        results = run_all(jobs)
    for key, why in results.items():
        weights.read.add(key)
        weights.bad.pop(key, None)
        if why:
            weights.bad[key] = why


def _check_copy(store: TensorStore, copy: Copy, task: Task) -> str:
    """Return why a copy is damaged, or "" if it is not."""
    try:
        _ = copy.volume.file
        if copy.kind == "blob":
            task.advance(len(store.blob_in(copy.volume, BlobId(copy.stored.id))))
            return ""
        for block in store.blocks_in(copy.volume, TensorId(copy.stored.id)):
            task.advance(block.nbytes)
    except FileNotFoundError:
        return f"{copy.volume.path} is missing" if copy.volume.is_outside else ""  # or it was repacked meanwhile
    except PersonaError as error:
        if is_short(error):
            raise
        return error.message
    return ""


def _find_waiting(weights: Weights) -> None:
    """Move deltas whose base tensor is lost from ``bad`` to ``waiting``: they may be intact themselves."""
    good, damaged = weights.good(), {name for _, name in weights.bad}
    failed = set(weights.bad)
    for key, copy in weights.copies.items():
        if copy.base is None or (copy.base in good and not (key in failed and copy.base in damaged)):
            continue
        weights.bad.pop(key, None)
        state = "damaged" if copy.base in damaged else "missing"
        weights.waiting[key] = f"it is stored as a delta of tensor {copy.base.short}, which is {state}"
