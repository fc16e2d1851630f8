"""Checkpoints to repair from, by id: a base, a full fine-tune or an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from persona.checkpoints.adapter import WEIGHTS
from persona.checkpoints.folder import Checkpoint, find_run, is_adapter, open_checkpoint
from persona.checkpoints.sidefiles import CODE
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.checkpoints.ties import tied_names
from persona.files import read_bytes, translated
from persona.ids import BlobId, TensorId, blob_id, tensor_id
from persona.maintenance.weights import digest_of
from persona.progress import Progress, Task
from persona.store.ingest_files import read_side_files
from persona.store.nouns import Base, TensorSpec
from persona.threads import run_all


@dataclass(frozen=True)
class RepairSource:
    """A checkpoint folder whose tensors and files were all hashed. ``checkpoint`` is None for an adapter."""

    folder: Path
    files: tuple[TensorFile, ...]
    checkpoint: Checkpoint | None
    places: dict[TensorId, tuple[TensorFile, TensorInfo]]
    ids: dict[str, TensorId]
    side: dict[str, BlobId]

    @property
    def paths(self) -> list[Path]:
        """Paths of the weight files."""
        return [file.path for file in self.files]

    @cached_property
    def digests(self) -> dict[str, TensorFile]:
        """Weight files by the BLAKE3 of their bytes."""
        return {digest_of(file.path): file for file in self.files}

    def blob(self, name: BlobId) -> bytes | None:
        """Return the bytes of a side file, or None if there is none with this id."""
        for file, blob in self.side.items():
            if blob == name and self.checkpoint is not None:
                with translated(self.folder / file):
                    return read_bytes(self.folder / file)
        return None

    def bases(self) -> list[Base]:
        """Return the bases that ``init`` could have recorded for this checkpoint; none for an adapter.

        They differ in the small files: without code, with it, and without subfolders, as earlier versions stored them.
        """
        if self.checkpoint is None:
            return []
        infos = self.checkpoint.tensors
        specs = {name: TensorSpec(self.ids[name], info.dtype, info.shape) for name, info in infos.items()}
        tied = {}
        for head, embedding in tied_names(self.checkpoint.config, specs).items():
            if head not in specs or specs[head].id == specs[embedding].id:
                specs.pop(head, None)
                tied[head] = embedding
        data = {name: blob for name, blob in self.side.items() if not name.endswith(CODE)}
        flat = {name: blob for name, blob in data.items() if "/" not in name}
        return [Base(specs, files, tied) for files in (data, self.side, flat)]


def open_source(path: Path, progress: Progress) -> RepairSource:
    """Open a folder as ``commit`` and ``init`` do, and hash every tensor and side file in it.

    Raises:
        CheckpointError: The folder is not a checkpoint or adapter.
    """
    folder = find_run(path)
    checkpoint = None if is_adapter(folder) else open_checkpoint(folder)
    files = (TensorFile(folder / WEIGHTS),) if checkpoint is None else checkpoint.files
    tensors = [(file, info) for file in files for info in file.tensors.values()]
    with progress.task("reading the checkpoint", sum(info.nbytes for _, info in tensors)) as task:
        largest = sorted(range(len(tensors)), key=lambda k: -tensors[k][1].nbytes)
        ids = run_all({k: partial(_hash, *tensors[k], task) for k in largest})
    side = read_side_files(checkpoint, allow_code=True) if checkpoint else {}
    return RepairSource(
        folder=folder,
        files=files,
        checkpoint=checkpoint,
        places={ids[k]: tensors[k] for k in ids},
        ids={tensors[k][1].name: ids[k] for k in ids},
        side={name: blob_id(data) for name, data in side.items()},
    )


def _hash(file: TensorFile, info: TensorInfo, task: Task) -> TensorId:
    name = tensor_id(info.dtype, info.shape, file.chunks(info))
    task.advance(info.nbytes)
    return name
