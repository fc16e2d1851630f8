"""Reading the folders of ``torch.distributed.checkpoint``: FSDP's sharded weights, one file or more per process.

``.metadata`` is a pickle that says which tensors there are, and which rows and columns of each are where in the
``.distcp`` files. It is decoded without running it (``inert``). Each part is a tensor that ``torch.save`` wrote.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.checkpoints import inert, pickled
from persona.checkpoints.inert import Placeholder
from persona.checkpoints.pickled import WRAPPERS, Weights
from persona.checkpoints.tensorfile import changed_while_read
from persona.errors import CheckpointError
from persona.files import read_bytes, translated
from persona.reading import OpenFile

if TYPE_CHECKING:
    import torch

METADATA = ".metadata"

_LARGEST = 256 << 20
_STEPS = 50_000_000
_DEEPEST = 4

Place = tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    """Where a part of a tensor is: in the tensor, and in a file."""

    offset: Place
    shape: Place
    file: str
    at: int
    length: int


@dataclass(frozen=True)
class _Sharded:
    """A tensor in parts."""

    dtype: str
    shape: Place
    parts: tuple[_Part, ...]


def find(path: Path) -> Path | None:
    """The folder with sharded weights: ``path``, or one in it that is not the optimizer's; None if there is none."""
    if not path.is_dir():
        return None
    places = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    return next((p for p in places if (p / METADATA).is_file() and not p.name.startswith("optimizer")), None)


def files(folder: Path) -> list[Path]:
    """The files to read."""
    return [folder / METADATA, *sorted(folder.glob("*.distcp"))]


def load(folder: Path) -> Weights:
    """Open the tensors of a folder, by name.

    Raises:
        CheckpointError: the folder is incomplete or damaged, or its parts are stored in an unknown way.
    """
    import torch

    path = folder / METADATA
    with translated(path):
        if path.stat().st_size > _LARGEST:
            raise _bad(path, "is too large")
        data = read_bytes(path)
    try:
        sharded = dict(_decoded(inert.load(data, _STEPS)))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _bad(path, f"does not describe a sharded checkpoint that persona can read ({error})") from None
    if not sharded:
        raise _bad(path, "lists no tensors")
    opened = {name: _open(folder, name) for name in sorted({p.file for t in sharded.values() for p in t.parts})}
    for part in (part for tensor in sharded.values() for part in tensor.parts):
        if part.at + part.length > opened[part.file].size:
            raise CheckpointError(f"{folder / part.file} is truncated", "Copy it again.")
    meta = {name: torch.empty(t.shape, dtype=getattr(torch, t.dtype), device="meta") for name, t in sharded.items()}
    return Weights(meta, partial(_read, sharded, opened))


def _bad(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}",
        "Copy the folder again, or merge it with the program that wrote it: "
        f"accelerate merge-weights {path.parent} {path.parent}-merged",
    )


def _open(folder: Path, name: str) -> OpenFile:
    if Path(name).name != name or not (folder / name).is_file():
        raise CheckpointError(f"{folder / METADATA} lists {name!r}, which is not in its folder", "Copy it again.")
    with translated(folder / name):
        return OpenFile(folder / name)


def _decoded(metadata: Any) -> Iterator[tuple[str, _Sharded]]:
    """The tensors of a decoded ``.metadata``, by their names in the model; ValueError and the like if it is not one."""
    fields = metadata.state
    listed, stored = fields["state_dict_metadata"], fields["storage_data"]
    places: dict[str, dict[Place, Any]] = {}
    for index, info in stored.items():
        key = index.state
        if key.get("offset") is not None:
            places.setdefault(key["fqn"], {})[_size(key["offset"])] = info.state
    tensors = {key: value.state for key, value in listed.items() if value.state and "chunks" in value.state}
    paths = fields.get("planner_data")
    paths = paths if isinstance(paths, dict) else {}
    names = _names({key: tuple(map(str, paths.get(key) or (key,))) for key in tensors})
    for key, name in names.items():
        yield name, _sharded(key, tensors[key], places.get(key, {}))


def _sharded(key: str, fields: Mapping[str, Any], places: Mapping[Place, Any]) -> _Sharded:
    dtype, shape = fields["properties"].state[0].name.removeprefix("torch."), _size(fields["size"])
    if not pickled.is_dtype(dtype):
        raise ValueError(f"{key} is {dtype}")
    parts = []
    for chunk in fields["chunks"]:
        offset, size = _size(chunk.state["offsets"]), _size(chunk.state["sizes"])
        info = places[offset]
        if info.get("transform_descriptors"):
            raise ValueError(f"{key} is compressed")
        ends = (start + length for start, length in zip(offset, size, strict=True))
        if any(end > whole for end, whole in zip(ends, shape, strict=True)):
            raise ValueError(f"a part of {key} lies outside of it")
        parts.append(_Part(offset, size, str(info["relative_path"]), int(info["offset"]), int(info["length"])))
    if sum(math.prod(part.shape) for part in parts) != math.prod(shape) or len({p.offset for p in parts}) != len(parts):
        raise ValueError(f"the parts of {key} do not make up its shape")
    return _Sharded(dtype, shape, tuple(parts))


def _size(value: Placeholder) -> Place:
    """A ``torch.Size``."""
    (numbers,) = value.arguments
    if not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in numbers):
        raise ValueError("an invalid shape")
    return tuple(numbers)


def _names(paths: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The names of the model's tensors, by key: without the tables that they are in, and without the optimizer's."""
    for _ in range(_DEEPEST):
        tops = {path[0] for path in paths.values()}
        top = next((key for key in WRAPPERS if key in tops), next(iter(tops)) if len(tops) == 1 else None)
        if top is None or any(len(path) == 1 for path in paths.values() if path[0] == top):
            break
        paths = {key: path[1:] for key, path in paths.items() if path[0] == top}
    return {key: ".".join(path) for key, path in paths.items()}


def _read(sharded: Mapping[str, _Sharded], opened: Mapping[str, OpenFile], name: str) -> torch.Tensor:
    """Put a tensor together."""
    import torch

    tensor = sharded[name]
    whole = torch.empty(tensor.shape, dtype=getattr(torch, tensor.dtype))
    for part in tensor.parts:
        file = opened[part.file]
        data = file.read(part.at, part.length)
        if len(data) != part.length:
            raise changed_while_read(file.path)
        piece = pickled.torch_load(io.BytesIO(data), file.path)
        if not isinstance(piece, torch.Tensor) or piece.shape != part.shape or piece.dtype != whole.dtype:
            raise CheckpointError(
                f"{file.path} is damaged: a part of {name} is not what .metadata says", "Copy it again."
            )
        where = tuple(slice(start, start + length) for start, length in zip(part.offset, part.shape, strict=True))
        whole[where] = piece
    return whole
