"""Reading tensors from ``.bin`` and ``.pt`` files, which are pickles, without running code from them.

They are opened only with ``torch.load(weights_only=True)``, an unpickler that accepts tensors and plain containers and
refuses every other name (https://docs.pytorch.org/docs/stable/generated/torch.load.html). No other module may do so.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.checkpoints.sidefiles import read_json, refuse_lfs_pointer
from persona.errors import CheckpointError
from persona.files import storage_error

if TYPE_CHECKING:
    import torch

INDEX = "pytorch_model.bin.index.json"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training scripts nest the tensors."""

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
    raise CheckpointError(f"{path} contains no pytorch_model.bin or adapter_model.bin", "Give the file itself.")


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name or not (folder / name).is_file():
        raise CheckpointError(f"{folder / INDEX} lists {name!r}, which is not in its folder", "Copy it again.")
    return folder / name


def load(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of one file, by name.

    Raises:
        CheckpointError: the file is damaged, contains no tensors, or would run code.
    """
    import warnings

    import torch

    refuse_lfs_pointer(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; files that cannot be read raise
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
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
    return dict(_tensors(path, _unwrapped(loaded)))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _offender(error: Exception) -> str:
    """The name that torch refused, if its message contains one."""
    words = str(error).replace("`", " ").split()
    return next((word.rstrip(",.") for word in words if "." in word[1:-1] and not word.startswith("http")), "a pickle")


def _unwrapped(loaded: Any) -> Any:
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            return loaded[key]
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
