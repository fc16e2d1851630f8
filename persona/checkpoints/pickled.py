"""Reading tensors from ``.bin`` and ``.pt`` files, which are pickles, without running code from them.

They are opened only with ``torch.load(weights_only=True)``, an unpickler that accepts tensors and plain containers and
refuses every other name (https://docs.pytorch.org/docs/stable/generated/torch.load.html). No other module may do so.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from persona.checkpoints import layouts
from persona.checkpoints.sidefiles import read_json, refuse_lfs_pointer
from persona.checkpoints.tensorfile import changed_while_read
from persona.errors import CheckpointError
from persona.files import storage_error, translated
from persona.reading import OpenFile

if TYPE_CHECKING:
    import torch

INDEX = "pytorch_model.bin.index.json"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training scripts nest the tensors."""

_DEEPEST = 4

_NAMES = {
    "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "int8": "I8", "int16": "I16",
    "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


def find(path: Path) -> list[Path]:
    """The pickled weight files at ``path``: the file itself, or those in a folder.

    Raises:
        CheckpointError: there are none, or the folder is incomplete.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist", "Give a .bin or .pt file, or its folder.")
    shards = read_json(path / INDEX).get("weight_map")
    if isinstance(shards, Mapping):
        return [_inside(path, str(name)) for name in sorted(set(shards.values()))]
    for name in ("pytorch_model.bin", "adapter_model.bin", "model.pt", "model.pth"):
        if (path / name).is_file():
            return [path / name]
    others = layouts.pickles(path)
    if len(others) == 1:
        return others
    if others:
        some = ", ".join(other.name for other in others[:3]) + (", …" if len(others) > 3 else "")
        raise CheckpointError(f"{path} contains {len(others)} files that may be weights: {some}", "Give one of them.")
    if any(path.glob("*.safetensors")):
        raise CheckpointError(f"{path} contains safetensors files already", "Use the folder as it is.")
    raise layouts.no_weights(path)


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name or not (folder / name).is_file():
        raise CheckpointError(f"{folder / INDEX} lists {name!r}, which is not in its folder", "Copy it again.")
    return folder / name


@dataclass(frozen=True)
class Weights:
    """The tensors of one file.

    Attributes:
        tensors: By name; only their shapes and dtypes may be used.
        read: Returns one with its values.
    """

    tensors: Mapping[str, torch.Tensor]
    read: Callable[[str], torch.Tensor]


def load(path: Path) -> Weights:
    """Open the tensors of one file, by name.

    Raises:
        CheckpointError: the file is damaged, contains no tensors, or would run code.
    """
    refuse_lfs_pointer(path)
    loaded, lazily = _loaded(path)
    tensors = dict(_tensors(path, _unwrapped(loaded)))
    if not any(tensor.numel() for tensor in tensors.values()):
        raise CheckpointError(
            f"{path} contains only empty tensors",
            "DeepSpeed ZeRO-3 keeps the weights in other files: merge them with its zero_to_fp32.py.",
        )
    if not lazily:
        return Weights(tensors, tensors.__getitem__)
    with translated(path):
        file = OpenFile(path)
    return Weights(tensors, lambda name: _read(file, tensors[name]))


def _loaded(path: Path) -> tuple[Any, bool]:
    """What a file contains, and whether its tensors are without values and know their places in the file instead."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    if _is_little_endian_zip(path):
        with FakeTensorMode():
            loaded = torch_load(path, path)
        if all(
            getattr(t.untyped_storage(), "_checkpoint_offset", None) is not None
            for t in _all_tensors(_unwrapped(loaded))
        ):
            return loaded, True
    return torch_load(path, path), False


def _all_tensors(loaded: Any) -> Iterator[torch.Tensor]:
    import torch

    values = loaded.values() if isinstance(loaded, Mapping) else ()
    return (value for value in values if isinstance(value, torch.Tensor) and value.layout == torch.strided)


def torch_load(source: Path | IO[bytes], path: Path) -> Any:
    """Read what ``torch.save`` wrote to a file, or to a part of the file at ``path``.

    Raises:
        CheckpointError: it is damaged, or would run code.
    """
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; files that cannot be read raise
            return torch.load(source, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than tensors ({_offender(error)}); opening it would run code",
            "Do not trust it. If you do, load the model yourself and call save_pretrained, which writes safetensors.",
        ) from None
    except OSError as error:
        raise storage_error(error, path) from error
    except (RuntimeError, EOFError, LookupError, ValueError, AssertionError) as error:
        raise CheckpointError(
            f"{path} is damaged or not a file of weights: {_first_line(error)}", "Copy it again."
        ) from None


def _read(file: OpenFile, tensor: torch.Tensor) -> torch.Tensor:
    """Read the values of a tensor that knows its place in a file."""
    import numpy as np
    import torch

    shape, steps, size = tuple(tensor.shape), tensor.stride(), tensor.element_size()
    if not tensor.numel():
        return torch.empty(shape, dtype=tensor.dtype)
    entries = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    data = np.empty(entries * size, np.uint8)
    at = (tensor.untyped_storage()._checkpoint_offset or 0) + int(tensor.storage_offset()) * size
    if file.read_into(data, at) != len(data):
        raise changed_while_read(file.path)
    return torch.from_numpy(data).view(tensor.dtype).as_strided(shape, steps)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_little_endian_zip(path: Path) -> bool:
    with translated(path), path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                orders = [name for name in archive.namelist() if name.endswith("/byteorder")]
                return all(archive.read(name) == b"little" for name in orders)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError):
            return False  # which torch says better


def _offender(error: Exception) -> str:
    """The name that torch refused, if its message contains one."""
    found = re.search(r"GLOBAL ([\w.]+\w)|(?:function|class|import of) ([a-zA-Z_]\w*\.[\w.]*\w)", str(error))
    return found[1] or found[2] if found else "a pickle"


def _unwrapped(loaded: Any) -> Any:
    """The table of tensors, out of the tables that training scripts put it into."""
    for _ in range(_DEEPEST):
        inner = (loaded.get(key) for key in WRAPPERS) if isinstance(loaded, Mapping) else ()
        table = next((value for value in inner if isinstance(value, Mapping)), None)
        if table is None:
            break
        loaded = table
    return loaded


def _tensors(path: Path, loaded: Any) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if not isinstance(loaded, Mapping) or not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} contains no table of tensors", "Give the file with the model's weights.")
    for name, value in loaded.items():
        if isinstance(value, torch.Tensor):
            if dtype_name(value) is None or value.layout != torch.strided:
                raise CheckpointError(f"{path}: {name} is {value.dtype}, {value.layout}", "Save it as a plain tensor.")
            yield str(name), value


def dtype_name(tensor: torch.Tensor) -> str | None:
    """The safetensors name of a tensor's dtype; None if there is none."""
    return _NAMES.get(str(tensor.dtype).removeprefix("torch."))


def is_dtype(name: str) -> bool:
    """Whether torch has a dtype of this name that safetensors has, too."""
    return name in _NAMES
