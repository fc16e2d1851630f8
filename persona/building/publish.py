"""The folder of a build: it appears complete, under its name, or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona import files
from persona.building.plan import Output, Plan
from persona.checkpoints.dtypes import BITS, byte_size, is_finite
from persona.checkpoints.tensorfile import TensorInfo, layout

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

SHARD_SIZE = 5_000_000_000
"""Default maximum number of bytes per weight file."""

WRITEBACK = 16 << 20
"""Bytes after which the kernel is asked to start writing, so that the final fsync is short."""


@dataclass(frozen=True)
class Shard:
    """The layout of a weight file: its name, the bytes before the data, and where each tensor goes."""

    name: str
    head: bytes
    tensors: Mapping[str, TensorInfo]

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""
        return max((info.stop for info in self.tensors.values()), default=len(self.head))


def make_shards(plan: Plan, shard_size: int) -> list[Shard]:
    """Split the outputs, in order, into files of at most ``shard_size`` bytes (one tensor may exceed it)."""
    groups: list[list[Output]] = [[]]
    size = 0
    for output in plan.outputs:
        nbytes = byte_size(output.dtype, output.entries)
        if groups[-1] and size + nbytes > shard_size:
            groups.append([])
            size = 0
        groups[-1].append(output)
        size += nbytes
    return [_shard(group, number, len(groups)) for number, group in enumerate(groups, 1)]


def _shard(group: list[Output], number: int, count: int) -> Shard:
    name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
    wide_first = sorted(group, key=lambda output: -BITS[output.dtype])  # keeps every tensor aligned
    head, infos = layout(((o.name, o.dtype, o.shape) for o in wide_first), {"format": "pt"})
    return Shard(name, head, infos)


def index_json(shards: list[Shard]) -> bytes:
    """Make ``model.safetensors.index.json``, which is needed for more than one shard."""
    weight_map = {name: shard.name for shard in shards for name in shard.tensors}
    total = sum(info.nbytes for shard in shards for info in shard.tensors.values())
    fields = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return (json.dumps(fields, indent=2) + "\n").encode()


class OutputFolder:
    """An unfinished build: a staging folder beside the target, with preallocated shards."""

    def __init__(self, target: Path, shards: list[Shard], *, replace: bool = False, like: Iterable[Path] = ()) -> None:
        self.target = target
        self.like = tuple(like)
        self.replace = replace
        self.shards = shards
        self._staging = files.make_staging_folder(target)
        self.not_finite: set[str] = set()
        """Tensors that have infinities or NaNs."""
        self._where: dict[str, tuple[files.Staged, TensorInfo]] = {}
        self._open: list[tuple[files.Staged, Shard]] = []

    def reserve(self) -> None:
        """Allocate disk space for all weights and write the headers."""
        for shard in self.shards:
            staged = files.Staged(self._staging, shard.name)
            self._open.append((staged, shard))
            staged.narrow(self.like)
            staged.reserve(shard.size)
            staged.write_at(0, shard.head)
            self._where.update({name: (staged, info) for name, info in shard.tensors.items()})

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Write a block of tensor ``name`` that starts at ``entry``."""
        staged, info = self._where[name]
        if not is_finite(bits, info.dtype):
            self.not_finite.add(name)
        offset = info.start + entry * bits.itemsize
        staged.write_at(offset, bits)
        if (offset + bits.nbytes) // WRITEBACK != offset // WRITEBACK or offset + bits.nbytes == info.stop:
            start = max(info.start, offset - WRITEBACK)
            staged.start_writeback(start, offset + bits.nbytes - start)

    def add_file(self, name: str, data: bytes) -> None:
        """Write a small file; ``name`` may contain a folder."""
        path = self._staging / name
        files.make_folder(path.parent)
        files.write_file(path, data)

    def publish(self) -> None:
        """Sync everything to disk and rename the folder to its target."""
        for staged, shard in self._open:
            staged.publish(self._staging / shard.name, sync_folder=False)
        files.publish_folder(self._staging, self.target, replace=self.replace)

    def discard(self) -> None:
        """Remove the staging folder; does nothing after :meth:`publish`."""
        for staged, _ in self._open:
            staged.discard()
        if self._staging.exists():
            files.remove_tree(self._staging)


@contextlib.contextmanager
def output_folder(
    target: Path, shards: list[Shard], *, replace: bool = False, like: Iterable[Path] = ()
) -> Iterator[OutputFolder]:
    """Yield a folder to build into; it is discarded unless it was published.

    Args:
        target: The folder to create.
        shards: The weight files.
        replace: Replace an earlier build.
        like: Files that the weights come from: nobody else may read the weights who may not read one of these.
    """
    folder = OutputFolder(target, shards, replace=replace, like=like)
    try:
        yield folder
    finally:
        folder.discard()
