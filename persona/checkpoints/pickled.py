"""Reading tensors from ``.bin`` and ``.pt`` files, which are pickles, without running code from them.

They are opened only with ``torch.load(weights_only=True)``, an unpickler that accepts tensors and plain containers and
refuses every other name (https://docs.pytorch.org/docs/stable/generated/torch.load.html). No other module may do so.
"""

from __future__ import annotations

import logging
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from persona.checkpoints import layouts
from persona.checkpoints.sidefiles import read_json, refuse_lfs_pointer
from persona.checkpoints.tensorfile import changed_while_read
from persona.errors import CheckpointError
from persona.files import opened, storage_error, translated
from persona.reading import OpenFile

if TYPE_CHECKING:
    import torch

INDEX = "pytorch_model.bin.index.json"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training scripts nest the tensors."""

_DEEPEST = 4
_NESTED = 8
_LONGEST = 120
"""Characters of an error of torch that are shown."""

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
    index = index_of(path)
    if index:
        return [_inside(path, name) for name in sorted(set(index.values()))]
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


def index_of(folder: Path) -> dict[str, str]:
    """The file of each tensor by the folder's index; empty if it has none.

    Raises:
        CheckpointError: the index is malformed.
    """
    index = folder / INDEX
    if not index.is_file():
        return {}
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise CheckpointError(f"{index} has no valid weight_map", "Save the checkpoint again.")
    return files


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

    records = _plain_records(path)
    if records:
        with FakeTensorMode(), _unlogged("torch._subclasses.fake_tensor"):
            loaded = torch_load(path, path)
        if all(_is_in(records, tensor) for tensor in _all_tensors(_unwrapped(loaded))):
            return loaded, True
    return torch_load(path, path), False


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Silence a logger that prints the errors that it also raises."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _is_in(records: Mapping[int, int], tensor: torch.Tensor) -> bool:
    """Whether a record has exactly the tensor's storage, and the storage has the entries of the tensor as they are."""
    storage = tensor.untyped_storage()
    begin = getattr(storage, "_checkpoint_offset", None)
    if begin is None or records.get(begin) != storage.nbytes() or tensor.is_neg() or tensor.is_conj():
        return False
    first, steps = int(tensor.storage_offset()), tensor.stride()
    if first < 0 or any(step < 0 for step in steps):
        return False
    return not tensor.numel() or (first + _span(tensor)) * tensor.element_size() <= storage.nbytes()


def _span(tensor: torch.Tensor) -> int:
    """Number of entries of a storage from the first of a tensor to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


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
    except (RuntimeError, EOFError, LookupError, ValueError, AssertionError, TypeError, AttributeError) as error:
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
    data = np.empty(_span(tensor) * size, np.uint8)
    at = (tensor.untyped_storage()._checkpoint_offset or 0) + int(tensor.storage_offset()) * size
    if file.read_into(data, at) != len(data):
        raise changed_while_read(file.path)
    return torch.from_numpy(data).view(tensor.dtype).as_strided(shape, steps)


def _first_line(error: Exception) -> str:
    line = (str(error) or type(error).__name__).splitlines()[0]
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def _plain_records(path: Path) -> dict[int, int]:
    """Sizes of the records of a little-endian zip file by their places; empty if one is compressed or it is no zip."""
    with translated(path), opened(path) as file:
        if file.read(4) != b"PK\x03\x04":
            return {}
        try:
            with zipfile.ZipFile(file) as archive:
                found = archive.infolist()
                if any(one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size for one in found):
                    return {}  # which torch unpacks
                orders = [one for one in found if one.filename.endswith("/byteorder")]
                if not all(one.file_size == len(_LITTLE) and archive.read(one) == _LITTLE for one in orders):
                    return {}
            return {_content(file, one): one.file_size for one in found}
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error):
            return {}  # which torch says better


_LITTLE = b"little"


def _content(file: IO[bytes], record: zipfile.ZipInfo) -> int:
    """Where a record's bytes begin, after a header with a name and an extra field."""
    file.seek(record.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return int(record.header_offset + 30 + name + extra)


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
    seen = set[str]()
    for name, value in loaded.items():
        if isinstance(value, torch.Tensor):
            if dtype_name(value) is None or value.layout != torch.strided:
                raise CheckpointError(f"{path}: {name} is {value.dtype}, {value.layout}", "Save it as a plain tensor.")
            if value.device.type == "meta":
                raise CheckpointError(f"{path}: {name} is on the device 'meta': it has no values", _AGAIN)
            if str(name) in seen:
                raise CheckpointError(f"{path}: {str(name)!r} is the name of two tensors", "Rename one of them.")
            seen.add(str(name))
            yield str(name), value
        elif not str(name).endswith("_extra_state") and _has_tensors(value):
            raise CheckpointError(
                f"{path}: {name} is not a tensor but contains tensors, beside those of the table", _AGAIN
            )


_AGAIN = "Save the model's weights alone: torch.save(model.state_dict(), FILE)."


def _has_tensors(value: Any, depth: int = 0) -> bool:
    """Whether there are tensors in nested containers."""
    import torch

    if isinstance(value, torch.Tensor):
        return True
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return depth < _NESTED and any(_has_tensors(item, depth + 1) for item in inner)


def dtype_name(tensor: torch.Tensor) -> str | None:
    """The safetensors name of a tensor's dtype; None if there is none."""
    return _NAMES.get(str(tensor.dtype).removeprefix("torch."))


def is_dtype(name: str) -> bool:
    """Whether torch has a dtype of this name that safetensors has, too."""
    return name in _NAMES
