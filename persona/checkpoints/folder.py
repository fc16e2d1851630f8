"""Hugging Face folders: where the weights of a run are, and opening them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from persona.checkpoints.sidefiles import ADAPTER_CONFIG, INDEX, read_config, read_json, side_files
from persona.checkpoints.stability import Watch
from persona.checkpoints.tensorfile import PlainBytes, TensorFile, TensorInfo
from persona.errors import CheckpointError
from persona.files import translated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NOT_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state.*)\.(bin|pt|pth)")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")


class TensorSource(Protocol):
    """Where the bytes of tensors come from: a file, or a computation."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    def read(
        self, info: TensorInfo, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """A tensor's plain bytes from start to stop, perhaps at the beginning of ``out``."""

    def data(self, info: TensorInfo) -> npt.NDArray[np.uint8]:
        """All of a tensor's plain bytes."""

    def chunks(self, info: TensorInfo) -> Iterator[npt.NDArray[np.uint8]]:
        """A tensor's plain bytes in pieces, each of which is valid until the next one."""

    def lazy(self, info: TensorInfo) -> PlainBytes:
        """A tensor's plain bytes, which may be read when they are sliced."""

    def held(self, info: TensorInfo) -> TensorSource:
        """A source to read one tensor from in parts: what is computed is computed once."""


@dataclass(frozen=True)
class Checkpoint:
    """A full checkpoint on disk.

    Attributes:
        owner: What each tensor is read from: a file, or a conversion of tensors in files.
        side_files: Names of small files → their paths.
        infos: Every tensor, in file order.
        watch: All of its files since before they were read.
    """

    folder: Path
    files: tuple[TensorFile, ...]
    owner: Mapping[str, TensorSource]
    config: Mapping[str, Any]
    side_files: Mapping[str, Path]
    infos: Mapping[str, TensorInfo]
    watch: Watch

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor, in file order, as a dictionary of your own."""
        return dict(self.infos)

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.size for file in self.files)


def find_run(path: Path) -> Path:
    """The folder with a run's weights: ``path`` itself, or the newest ``checkpoint-N`` inside it.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist", "Give the folder with the weights.")
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file", "Give its folder, as save_pretrained or a Trainer wrote it.")
    with translated(path):
        if _is_checkpoint(path):
            return path
        numbered = [child for child in numbered_folders(path) if _is_checkpoint(child)]
    if numbered:
        return numbered[-1]
    raise _no_checkpoint(path)


def numbered_folders(path: Path) -> list[Path]:
    """The ``checkpoint-N`` folders in ``path``, newest last."""
    numbered = [
        (int(match[1]), child)
        for child in path.iterdir()
        if (match := _CHECKPOINT.fullmatch(child.name)) and child.is_dir()
    ]
    return [child for _, child in sorted(numbered)]


def is_adapter(folder: Path) -> bool:
    """Whether the folder is a PEFT adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def _is_checkpoint(folder: Path) -> bool:
    return is_adapter(folder) or any(folder.glob("*.safetensors"))


def _no_checkpoint(path: Path) -> CheckpointError:
    pickles = [p.name for pattern in _PICKLES for p in path.glob(pattern) if not _NOT_WEIGHTS.fullmatch(p.name)]
    if pickles:
        return CheckpointError(
            f"{path} contains {sorted(pickles)[0]} but no safetensors file, and persona does not read pickles",
            f"Convert it to safetensors first: persona convert {path} -o {path}-safe",
        )
    snapshots = sorted(path.glob("snapshots/*"))
    if snapshots:
        return CheckpointError(
            f"{path} is a folder of the hub cache, not a checkpoint", f"Give the folder of a revision: {snapshots[-1]}"
        )
    return CheckpointError(
        f"{path} is not a checkpoint: it contains no safetensors file and no adapter_config.json",
        "Give a folder that save_pretrained or a Trainer wrote.",
    )


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a full checkpoint: ``model.safetensors``, else the shards that the index lists, else all safetensors files.

    Raises:
        CheckpointError: there are no weights, or the checkpoint is incomplete or damaged.
    """
    watch = Watch([folder / INDEX, folder / "config.json"])
    paths = _weight_files(folder)
    watch.add(*paths)
    files = tuple(TensorFile(path) for path in paths)
    owner: dict[str, TensorFile] = {}
    for file in files:
        for name in file.tensors:
            if name in owner:
                raise CheckpointError(
                    f"{folder} contains tensor {name!r} twice, in {owner[name].path.name} and {file.path.name}",
                    "Remove the files that do not belong to this checkpoint.",
                )
            owner[name] = file
    if not owner:
        raise CheckpointError(f"{folder} contains no tensors", "Give a folder that save_pretrained or a Trainer wrote.")
    _check_complete(folder, paths, owner)
    small = dict(side_files(folder))
    watch.add(*small.values())
    infos = {name: file.tensors[name] for name, file in owner.items()}
    return Checkpoint(folder, files, owner, read_config(folder / "config.json"), small, infos, watch)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return _indexed(folder, index)
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name != "adapter_model.safetensors")
    if not paths:
        raise _no_checkpoint(folder)
    return paths


def _check_complete(folder: Path, paths: list[Path], owner: Mapping[str, TensorFile]) -> None:
    """Raise if shards are missing, so that an interrupted copy is not taken for a smaller model."""
    index = folder / INDEX
    if index.is_file() and paths[0].name != "model.safetensors":
        missing = [name for name in read_json(index)["weight_map"] if name not in owner]
        if missing:
            raise CheckpointError(f"{folder} lacks tensor {missing[0]!r}, which its index lists", "Copy it again.")
        return
    numbered = [match for path in paths if (match := _SHARD.fullmatch(path.name))]
    for match in numbered:
        count = sum(other[1] == match[1] and other[3] == match[3] for other in numbered)
        if count != int(match[3]):
            raise CheckpointError(f"{folder} has {count} of the {int(match[3])} shards of {match[1]}", "Copy it again.")


def _indexed(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{index} has no valid weight_map", "Save the checkpoint again.")
    paths = []
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name or name in ("", ".", ".."):
            raise CheckpointError(f"{index} lists the file {name!r}, which is outside its folder", "Do not trust it.")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} lacks {name}, which its index lists", "Copy the checkpoint again.")
        paths.append(folder / name)
    return paths
