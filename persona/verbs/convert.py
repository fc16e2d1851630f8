"""`persona convert`: convert pickled, sharded or GGUF weights to safetensors without running code from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from persona.building.publish import SHARD_SIZE, Shard, index_json, output_folder
from persona.building.target import check_target
from persona.checkpoints import distributed, pickled
from persona.checkpoints.dtypes import as_bits
from persona.checkpoints.pickled import Weights
from persona.checkpoints.sidefiles import ADAPTER_CONFIG, INDEX, refuse_lfs_pointer, side_files
from persona.checkpoints.stability import Watch
from persona.checkpoints.tensorfile import layout
from persona.errors import CheckpointError
from persona.files import read_bytes, translated
from persona.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

BLOCK = 8 << 20
_RESERVED = "__metadata__"


@dataclass(frozen=True)
class ConvertResult:
    """A folder with converted weights.

    `nbytes` is their size; `files` are the configs and tokenizer files written too; `notes` say what is unusual.
    """

    folder: Path
    tensors: int
    nbytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """What to convert: the tensors of each new file, small files by name, and everything that is read."""

    weights: Mapping[str, Weights]
    small: Mapping[str, bytes]
    watch: Watch = field(default_factory=Watch)
    notes: tuple[str, ...] = ()


def convert(path: Path | str, out: Path | str, *, progress: Progress = SILENT) -> ConvertResult:
    """Convert weights to safetensors.

    Args:
        path: A `.bin` or `.pt` file, a folder of them, sharded FSDP weights, or a `.gguf` file, whose weights are
            dequantized. Configs and tokenizer are copied too.
        out: Folder to create.

    Raises:
        CheckpointError: A file is damaged or would have to run code, or a tensor is in two files.
        Refusal: `out` exists.
        Storage: A file cannot be read, or changed while it was being read.
    """
    target = Path(out).resolve()
    check_target(target, replace=False)
    source = _open(Path(path))
    _check_names(source.weights)
    shards = [_shard(name, weights.tensors) for name, weights in source.weights.items()]
    with (
        output_folder(target, shards, like=source.watch.paths) as folder,
        progress.task("converting", _size(shards)) as task,
    ):
        folder.reserve()
        for weights in source.weights.values():
            for name in weights.tensors:
                tensor = weights.read(name)
                for entry, block in _blocks(tensor):
                    folder.write(name, entry, as_bits(block, pickled.dtype_name(tensor) or "U8"))
                    task.advance(block.nbytes)
        for name, data in source.small.items():
            folder.add_file(name, data)
        if len(shards) > 1:
            folder.add_file(INDEX, index_json(shards))
        source.watch.check()
        folder.publish()
    count = sum(len(shard.tensors) for shard in shards)
    return ConvertResult(Path(out), count, _size(shards), tuple(sorted(source.small)), source.notes)


def _open(path: Path) -> _Source:
    gguf = _gguf(path)
    if gguf is not None:
        return _of_gguf(gguf)
    sharded = distributed.find(path)
    if sharded is not None:
        return _of_shards(sharded, path)
    watch = Watch([path / pickled.INDEX])
    found = pickled.find(path)
    beside = _beside(path) if path.is_dir() else {}
    watch.add(*found, *beside.values())
    loaded = {file: pickled.load(file) for file in found}
    _check_index(path, loaded)
    return _Source({_renamed(file): weights for file, weights in loaded.items()}, _contents(beside), watch)


def _check_index(folder: Path, loaded: Mapping[Path, Weights]) -> None:
    """Raise if a tensor that the folder's index lists is in none of its files."""
    present = {name for weights in loaded.values() for name in weights.tensors}
    missing = [name for name in pickled.index_of(folder) if name not in present]
    if missing:
        raise CheckpointError(f"{folder} lacks tensor {missing[0]!r}, which its index lists", "Copy it again.")


def _gguf(path: Path) -> Path | None:
    """The only GGUF file at ``path``, if there are no other weights."""
    if path.suffix == ".gguf" and path.is_file():
        return path
    found = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(found) > 1 and not any(path.glob("*.bin")):
        raise CheckpointError(f"{path} contains {len(found)} GGUF files, such as {found[0].name}", "Give one of them.")
    return found[0] if len(found) == 1 and not any(path.glob("*.bin")) else None


def _of_gguf(file: Path) -> _Source:
    from persona.inference.gguf import load_gguf

    refuse_lfs_pointer(file)
    watch = Watch([file])
    tensors, small = load_gguf(file)
    note = f"the weights of {file.name} were dequantized to fp32; they are not those that it was made from"
    return _Source(_split(Weights(tensors, tensors.__getitem__), "model"), small, watch, (note,))


def _of_shards(folder: Path, path: Path) -> _Source:
    """Sharded weights, with the small files beside them, or beside their folder."""
    beside = _beside(path) or _beside(folder.parent)
    watch = Watch([*distributed.files(folder), *beside.values()])
    stem = "adapter_model" if ADAPTER_CONFIG in beside else "model"
    return _Source(_split(distributed.load(folder), stem), _contents(beside), watch)


def _beside(folder: Path) -> dict[str, Path]:
    """Configs and tokenizer files of a folder, by name."""
    config = folder / ADAPTER_CONFIG
    return dict(side_files(folder)) | ({ADAPTER_CONFIG: config} if config.is_file() else {})


def _contents(paths: Mapping[str, Path]) -> dict[str, bytes]:
    contents = {}
    for name, path in paths.items():
        with translated(path):
            contents[name] = read_bytes(path)
    return contents


def _split(weights: Weights, stem: str) -> dict[str, Weights]:
    """Divide tensors into files of at most `SHARD_SIZE` bytes (one tensor may exceed it)."""
    groups: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in weights.tensors.items():
        nbytes = tensor.numel() * tensor.element_size()
        if groups[-1] and size + nbytes > SHARD_SIZE:
            groups.append({})
            size = 0
        groups[-1][name] = tensor
        size += nbytes
    if len(groups) == 1:
        return {f"{stem}.safetensors": weights}
    names = (f"{stem}-{number:05d}-of-{len(groups):05d}.safetensors" for number in range(1, len(groups) + 1))
    return {name: Weights(group, weights.read) for name, group in zip(names, groups, strict=True)}


def _renamed(file: Path) -> str:
    """`pytorch_model-00001-of-00002.bin` → `model-00001-of-00002.safetensors`."""
    return f"{file.stem.removeprefix('pytorch_')}.safetensors"


def _check_names(loaded: Mapping[str, Weights]) -> None:
    seen: dict[str, str] = {}
    for file, weights in loaded.items():
        for name in weights.tensors:
            if name == _RESERVED:
                raise CheckpointError(f"{name!r} cannot be the name of a tensor in safetensors", "Rename it.")
            if seen.setdefault(name, file) != file:
                raise CheckpointError(
                    f"tensor {name!r} is in {seen[name]} and in {file}", "The checkpoint is damaged; copy it again."
                )


def _shard(name: str, tensors: Mapping[str, torch.Tensor]) -> Shard:
    wide_first = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # keeps every tensor aligned
    rows = ((key, pickled.dtype_name(tensor) or "U8", tuple(tensor.shape)) for key, tensor in wide_first)
    return Shard(name, *layout(rows, {"format": "pt"}))


def _size(shards: list[Shard]) -> int:
    return sum(shard.size for shard in shards)


def _blocks(tensor: torch.Tensor) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the tensor's bytes in blocks, each with the index of its first entry."""
    import torch

    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    step = BLOCK // max(flat.element_size(), 1)
    for start in range(0, flat.numel(), step):
        yield start, flat[start : start + step].view(torch.uint8).numpy()
