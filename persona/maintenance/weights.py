"""Examining the packs folder: each file's index and bytes, and each tensor and blob that it holds, decoded.

Every *copy* is examined, not every id: a reader takes the first copy it finds, so a damaged one is damage even where
another is whole. Work is spread over the cores by tensor, the largest first, and each tensor goes by in blocks, so
memory does not grow with the model.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from persona.checkpoints.dtypes import BITS
from persona.errors import PersonaError
from persona.files import translated
from persona.ids import BlobId, TensorId, file_digest
from persona.progress import Progress, Task
from persona.store import kept, lists, packs
from persona.store.packs import StoredBlob, StoredTensor, Volume
from persona.store.tensors import TensorStore
from persona.threads import run_all

CHUNK = 1 << 20
SET_ASIDE = ".damaged"
"""Ends the names of files that a repair took out of use and that may still hold what nothing else does."""

Key = tuple[str, str]
"""A copy: the name of the file whose index has it, and its id."""


@dataclass(frozen=True)
class Copy:
    """A tensor or blob in one file."""

    kind: Literal["tensor", "blob"]
    volume: Volume
    stored: StoredTensor | StoredBlob

    @property
    def plain(self) -> int:
        """Bytes that it has decoded."""
        if isinstance(self.stored, StoredBlob):
            return self.stored.length
        return self.stored.units * max(BITS[self.stored.dtype], 8) // 8

    @property
    def base(self) -> TensorId | None:
        """The tensor that it is a difference to."""
        return None if isinstance(self.stored, StoredBlob) else self.stored.base


@dataclass
class Weights:
    """The packs folder: what it holds, and what is wrong with it.

    ``files`` are readable files by the name of their index. ``unreadable`` are files without a usable index,
    ``altered`` those whose bytes do not hash to their name, ``bad`` copies that do not give their id, ``waiting``
    copies that cannot be judged for want of their base, and ``loose`` what is no part of the store. ``listed`` are ids
    of which nothing is left but a readable list, with the file that it stands beside.
    """

    files: dict[str, Volume] = field(default_factory=dict)
    copies: dict[Key, Copy] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    altered: dict[str, str] = field(default_factory=dict)
    bad: dict[Key, str] = field(default_factory=dict)
    waiting: dict[Key, str] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    listed: dict[str, str] = field(default_factory=dict)
    read: set[Key] = field(default_factory=set)

    def holders(self) -> dict[str, list[str]]:
        """The files that have each id."""
        found: dict[str, list[str]] = {}
        for file, name in self.copies:
            found.setdefault(name, []).append(file)
        return found

    def good(self) -> set[str]:
        """Ids of which one copy at least was not found damaged."""
        faulty = {*self.bad, *self.waiting}
        return {key[1] for key in self.copies if key not in faulty and key[0] not in self.unreadable}

    def suspect(self) -> set[str]:
        """Files with any fault of their own."""
        return {*self.unreadable, *self.altered, *(file for file, _ in self.bad)}


def open_all(folder: Path) -> Weights:
    """Read every index."""
    weights = Weights()
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names):
        path = folder / name
        if path.suffix not in (".pack", ".json"):
            if path.suffix != ".safetensors" or f"{path.stem}.json" not in names:
                weights.loose.append(name)
            continue
        try:
            volume = packs.open_pack(path) if path.suffix == ".pack" else kept.open_kept(path)
        except PersonaError as error:
            if path.exists():
                weights.unreadable[name] = error.message
                weights.listed |= dict.fromkeys(_listed(path), name)
            continue
        weights.files[name] = volume
        weights.copies |= {(name, one.id): Copy("tensor", volume, one) for one in volume.tensors.values()}
        weights.copies |= {(name, one.id): Copy("blob", volume, one) for one in volume.blobs.values()}
    return weights


def _listed(path: Path) -> tuple[TensorId, ...]:
    """What an unusable file should hold, if the list beside it can be read."""
    if path.suffix == ".json":
        with contextlib.suppress(PersonaError, ValueError, TypeError, KeyError, RecursionError):
            return lists.read(path).ids
    return ()


def read(folder: Path, progress: Progress, share: float = 1.0, seed: int = 0) -> Weights:
    """Examine the packs folder: all of it, or all indexes and blobs and about ``share`` of the tensors' bytes."""
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
    """Hash each file; one that the disk does not give is not mapped afterwards, for that would be fatal."""
    sizes = {name: _size(volume.path) for name, volume in weights.files.items()}
    with progress.task("reading files", sum(sizes.values())) as task:
        jobs = {
            name: partial(_read_file, weights.files[name], task)
            for name in sorted(sizes, key=lambda name: -sizes[name])
        }
        for name, (cannot, wrong) in run_all(jobs).items():
            if cannot:
                weights.unreadable[name] = cannot
            elif wrong:
                weights.altered[name] = wrong


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_file(volume: Volume, task: Task) -> tuple[str, str]:
    """Why a file cannot be read, and what is wrong with its bytes; empty where nothing is."""
    try:
        digest = digest_of(volume.path, task)
    except PersonaError as error:
        return error.message if volume.path.exists() or volume.is_outside else "", ""
    if digest == volume.index.stem:
        return "", ""
    return "", f"its bytes do not hash to {'what was recorded' if volume.is_outside else 'its name'}"


def digest_of(path: Path, task: Task) -> str:
    """The BLAKE3 of a file."""

    def chunks() -> Iterator[memoryview]:
        buffer = memoryview(bytearray(CHUNK))
        with translated(path), path.open("rb", buffering=0) as file:
            while length := file.readinto(buffer):
                yield buffer[:length]
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
    """Decode and hash copies on all cores; ``bad`` learns which of them are not what they are called."""
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
    """Why a copy is damaged; empty if it is not."""
    try:
        _ = copy.volume.buffer
        if copy.kind == "blob":
            task.advance(len(store.blob_in(copy.volume, BlobId(copy.stored.id))))
            return ""
        for block in store.blocks_in(copy.volume, TensorId(copy.stored.id)):
            task.advance(block.nbytes)
    except FileNotFoundError:
        return f"{copy.volume.path} is missing" if copy.volume.is_outside else ""  # else replaced since it was listed
    except PersonaError as error:
        return error.message
    return ""


def _find_waiting(weights: Weights) -> None:
    """A difference whose base is lost is not itself damaged, as far as anyone can tell."""
    good, damaged = weights.good(), {name for _, name in weights.bad}
    failed = set(weights.bad)
    for key, copy in weights.copies.items():
        if copy.base is None or (copy.base in good and not (key in failed and copy.base in damaged)):
            continue
        weights.bad.pop(key, None)
        state = "damaged" if copy.base in damaged else "missing"
        weights.waiting[key] = f"it is stored as a difference to tensor {copy.base.short}, which is {state}"
