"""`persona convert`: convert pickled weights to safetensors without running code from the pickle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.building.publish import Shard, index_json, output_folder
from persona.building.target import check_target
from persona.checkpoints import pickled
from persona.checkpoints.dtypes import as_bits
from persona.checkpoints.sidefiles import ADAPTER_CONFIG, INDEX, side_files
from persona.checkpoints.tensorfile import layout
from persona.errors import CheckpointError
from persona.files import translated
from persona.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

BLOCK = 8 << 20


@dataclass(frozen=True)
class ConvertResult:
    """A folder with converted weights. `nbytes` is their size; `files` are the configs and tokenizer files copied too."""

    folder: Path
    tensors: int
    nbytes: int
    files: tuple[str, ...]


def convert(path: Path | str, out: Path | str, *, progress: Progress = SILENT) -> ConvertResult:
    """Convert pickled weights to safetensors.

    Args:
        path: A `.bin` or `.pt` file, or a folder of them, whose configs and tokenizer are copied too.
        out: Folder to create.

    Raises:
        CheckpointError: A pickle is damaged or would have to run code, or a tensor is in two files.
        Refusal: `out` exists.
    """
    source, target = Path(path), Path(out).resolve()
    check_target(target, replace=False)
    loaded = {_renamed(file): pickled.load(file) for file in pickled.find(source)}
    _check_names(loaded)
    shards = [_shard(name, tensors) for name, tensors in loaded.items()]
    copied = _side_files(source)
    with output_folder(target, shards) as folder, progress.task("converting", _size(shards)) as task:
        folder.reserve()
        for tensors in loaded.values():
            for name, tensor in tensors.items():
                for entry, block in _blocks(tensor):
                    folder.write(name, entry, as_bits(block, pickled.dtype_name(tensor) or "U8"))
                    task.advance(block.nbytes)
        for name, file in copied.items():
            with translated(file):
                folder.add_file(name, file.read_bytes())
        if len(shards) > 1:
            folder.add_file(INDEX, index_json(shards))
        folder.publish()
    return ConvertResult(Path(out), sum(map(len, loaded.values())), _size(shards), tuple(sorted(copied)))


def _side_files(source: Path) -> dict[str, Path]:
    """Configs and tokenizer files of a folder of pickles."""
    if not source.is_dir():
        return {}
    config = source / ADAPTER_CONFIG
    return dict(side_files(source)) | ({ADAPTER_CONFIG: config} if config.is_file() else {})


def _renamed(file: Path) -> str:
    """`pytorch_model-00001-of-00002.bin` → `model-00001-of-00002.safetensors`."""
    return f"{file.stem.removeprefix('pytorch_')}.safetensors"


def _check_names(loaded: dict[str, dict[str, torch.Tensor]]) -> None:
    seen: dict[str, str] = {}
    for file, tensors in loaded.items():
        for name in tensors:
            if seen.setdefault(name, file) != file:
                raise CheckpointError(
                    f"tensor {name!r} is in {seen[name]} and in {file}", "The checkpoint is damaged; copy it again."
                )


def _shard(name: str, tensors: dict[str, torch.Tensor]) -> Shard:
    wide_first = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # keeps every tensor aligned
    rows = ((key, pickled.dtype_name(tensor) or "U8", tuple(tensor.shape)) for key, tensor in wide_first)
    return Shard(name, *layout(rows, {"format": "pt"}))


def _size(shards: list[Shard]) -> int:
    return sum(shard.size for shard in shards)


def _blocks(tensor: torch.Tensor) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the tensor's bytes in blocks, each with the index of its first entry."""
    import torch

    flat = tensor.detach().contiguous().reshape(-1)
    step = BLOCK // max(flat.element_size(), 1)
    for start in range(0, flat.numel(), step):
        yield start, flat[start : start + step].view(torch.uint8).numpy()
