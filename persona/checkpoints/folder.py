"""Hugging Face folders: where the weights of a run are, and opening them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona.checkpoints import hub, layouts
from persona.checkpoints.sidefiles import ADAPTER_CONFIG, INDEX, read_config, read_json, side_files, stays_inside
from persona.checkpoints.stability import Watch
from persona.checkpoints.tensorfile import TensorFile, TensorInfo, TensorSource
from persona.errors import CheckpointError
from persona.files import translated

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)\.safetensors")
_CONFIG_FILES = re.compile(r"(generation_)?config\.json")
_TOKENIZER_FILES = re.compile(
    r"tokenizer.*|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json|chat_template\..*|.*\.(model|tiktoken)"
)
IDENTITY, FINAL, CHECKPOINTS = "run.json", "final", "checkpoints"
"""In a folder of ``persona train``: what was trained, the result, and checkpoints on the way."""


@dataclass(frozen=True)
class Checkpoint:
    """A full checkpoint on disk.

    Attributes:
        owner: What each tensor is read from: a file, or a conversion of tensors in files.
        side_files: Names of small files → their paths.
        infos: Every tensor, in file order.
        watch: All of its files since before they were read.
        notes: What is unusual about it.
    """

    folder: Path
    files: tuple[TensorFile, ...]
    owner: Mapping[str, TensorSource]
    config: Mapping[str, Any]
    side_files: Mapping[str, Path]
    infos: Mapping[str, TensorInfo]
    watch: Watch
    notes: tuple[str, ...] = ()

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor, in file order, as a dictionary of your own."""
        return dict(self.infos)

    @property
    def nbytes(self) -> int:
        """Bytes of all weight files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Found:
    """The folder with a run's weights; ``notes`` say which one it is if that may be a surprise."""

    folder: Path
    notes: tuple[str, ...] = ()


def find_run(path: Path) -> Path:
    """The folder with a run's weights, see :func:`locate`."""
    return locate(path).folder


def locate(path: Path) -> Found:
    """Find a run's weights: in ``path`` itself, in what ``persona train`` wrote, or in the newest ``checkpoint-N``.

    A ``path`` that does not exist may be the id of a model in the Hugging Face Hub's cache.

    Raises:
        CheckpointError: there is no checkpoint, or it could be one of two.
    """
    if not path.exists():
        snapshot = hub.cached(path)
        if snapshot is None:
            raise layouts.missing(path)
        path = snapshot
    if not path.is_dir():
        raise layouts.not_a_folder(path)
    with translated(path):
        if _is_checkpoint(path):
            return Found(path)
        numbered = _numbered_in(path)
        with_weights = [child for child in numbered if _is_checkpoint(child)]
        if with_weights:
            return Found(with_weights[-1], tuple(_which(numbered, with_weights[-1], path)))
        if is_adapter(path):
            return Found(path)  # without weights, which is an error of its own
        raise layouts.no_weights(numbered[-1] if numbered else path)


def _numbered_in(path: Path) -> list[Path]:
    """Where a training run may have its weights, the preferred place last."""
    run, final, checkpoints = (path / name for name in (IDENTITY, FINAL, CHECKPOINTS))
    if not run.is_file():
        return numbered_folders(path)
    steps = numbered_folders(checkpoints) if checkpoints.is_dir() else []
    return [*steps, final] if final.is_dir() else steps


def _which(places: list[Path], taken: Path, run: Path) -> Iterator[str]:
    """Say which of several places was taken, unless it is the preferred one."""
    if places[-1] != taken:
        yield f"{places[-1].name} has no weights that persona can read: {taken.name} was used"
    elif taken.parent == run / CHECKPOINTS:
        yield f"the training in {run} is not finished: {taken.name} was used"


def numbered_folders(path: Path) -> list[Path]:
    """The ``checkpoint-N`` folders in ``path``, newest last."""
    numbered = [
        (int(match[1]), child)
        for child in path.iterdir()
        if (match := _CHECKPOINT.fullmatch(child.name)) and child.is_dir()
    ]
    return [child for _, child in sorted(numbered)]


def is_adapter(folder: Path) -> bool:
    """Whether the folder is an adapter, of PEFT or mlx-lm."""
    return (folder / ADAPTER_CONFIG).is_file()


def _is_checkpoint(folder: Path) -> bool:
    """Whether the folder has weights that can be read; raises if they could be either of two."""
    if not is_adapter(folder):
        return any(folder.glob("*.safetensors"))
    has_adapter = any((folder / name).is_file() for name in layouts.ADAPTER_WEIGHTS)
    full = _full_weights(folder)
    if full is not None:
        raise layouts.two_in_one(folder, full.name)
    return has_adapter


def _full_weights(folder: Path) -> Path | None:
    """A file with a full model's weights, by its name."""
    names = [folder / "model.safetensors", folder / INDEX]
    shards = sorted(path for path in folder.glob("*.safetensors") if _SHARD.fullmatch(path.name))
    return next((path for path in [*names, *shards] if path.is_file()), None)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a full checkpoint: ``model.safetensors``, else the shards that the index lists, else all safetensors files.

    Raises:
        CheckpointError: there are no weights, or the checkpoint is incomplete or damaged.
    """
    watch = Watch([folder / INDEX, folder / "config.json"])
    paths = _weight_files(folder)
    watch.add(*paths)
    files = tuple(TensorFile(path) for path in paths)
    owner = _owners(folder, files)
    _check_complete(folder, paths, owner)
    small, notes = dict(side_files(folder)), list[str]()
    if _CHECKPOINT.fullmatch(folder.name):
        above = _from_above(folder, small)
        small |= above
        notes += [f"{', '.join(sorted(above))} of {folder.parent}, as {folder.name} has none"] if above else []
    watch.add(*small.values())
    config = read_config(small.get("config.json", folder / "config.json"))
    infos = {name: file.tensors[name] for name, file in owner.items()}
    return Checkpoint(folder, files, owner, config, small, infos, watch, tuple(notes))


def _owners(folder: Path, files: Sequence[TensorFile]) -> dict[str, TensorFile]:
    """The file of each tensor. Of equal copies, it is the one that the index names."""
    owner: dict[str, TensorFile] = {}
    for file in files:
        for name in file.tensors:
            if name in owner and not _equal(owner[name], file, name):
                raise CheckpointError(
                    f"{folder} contains tensor {name!r} twice, in {owner[name].path.name} and {file.path.name}",
                    "Remove the files that do not belong to this checkpoint.",
                )
            if name not in owner or _named(folder, name) == file.path.name:
                owner[name] = file
    if not owner:
        raise CheckpointError(f"{folder} contains no tensors", "Give a folder that save_pretrained or a Trainer wrote.")
    if not any(file.tensors[name].nbytes for name, file in owner.items()):
        raise CheckpointError(
            f"{folder} contains only empty tensors",
            "DeepSpeed ZeRO-3 saves them if it does not gather the weights: merge the checkpoint with its "
            "zero_to_fp32.py, or train with stage3_gather_16bit_weights_on_model_save.",
        )
    return owner


def _equal(one: TensorFile, other: TensorFile, name: str) -> bool:
    """Whether an index names one of two files with the same tensor, which has the same bytes in both."""
    first, second = one.tensors[name], other.tensors[name]
    if (first.dtype, first.shape) != (second.dtype, second.shape) or not _named(one.path.parent, name):
        return False
    return all((a == b).all() for a, b in zip(one.chunks(first), other.chunks(second), strict=True))


def _named(folder: Path, name: str) -> str:
    """The file that the index names for a tensor; empty if there is no index."""
    named = read_json(folder / INDEX).get("weight_map", {}).get(name)
    return named if isinstance(named, str) else ""


def _from_above(checkpoint: Path, own: Mapping[str, Path]) -> dict[str, Path]:
    """The configuration and the tokenizer of a Trainer's output folder, each if its ``checkpoint-N`` has none."""
    kinds = [kind for kind in (_CONFIG_FILES, _TOKENIZER_FILES) if not any(map(kind.fullmatch, own))]
    with translated(checkpoint.parent):
        return {
            path.name: path
            for path in sorted(checkpoint.parent.iterdir())
            if any(kind.fullmatch(path.name) for kind in kinds) and path.is_file()
            if stays_inside(path, checkpoint.parent)
        }


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return _indexed(folder, index)
    paths = sorted(path for path in folder.glob("*.safetensors") if path.name != "adapter_model.safetensors")
    if not paths:
        raise layouts.no_weights(folder)
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
