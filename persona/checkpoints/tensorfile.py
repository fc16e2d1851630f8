"""Reading and laying out safetensors files; headers are untrusted and fully checked.

Format: 8 bytes little-endian header length N; N bytes of JSON ``{name: {dtype, shape, data_offsets}}`` with an
optional ``__metadata__`` of strings; then the data, without gaps. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from persona.checkpoints.dtypes import BITS, byte_size
from persona.checkpoints.sidefiles import refuse_lfs_pointer
from persona.errors import CheckpointError, Storage
from persona.files import translated
from persona.reading import OpenFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_HEADER = 100_000_000
"""The limit of the reference implementation."""

MAX_DIMENSIONS = 64
"""The limit of numpy; multiplying a million dimensions would take hours."""

CHUNK = 8 << 20
"""Bytes per chunk when a tensor is streamed."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file; ``start`` and ``stop`` are byte offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.stop - self.start


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


class TensorFile:
    """An open safetensors file. Reading raises Storage if the file has become shorter.

    Raises:
        CheckpointError: the header is invalid or does not match the size of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated(path):
            self._file = OpenFile(path)
        self.size = self._file.size
        head = self._file.read(0, 8)
        if len(head) < 8 or self.size < 8:
            raise _bad(path, "is too short for a header")
        self.header_size = int.from_bytes(head, "little")
        if self.header_size > min(MAX_HEADER, self.size - 8):
            refuse_lfs_pointer(path)
            raise _bad(path, f"states a header of {self.header_size} bytes but has only {self.size}")
        header = self._file.read(8, self.header_size)
        self.tensors, self.metadata = _parse(path, header, self.size - 8 - self.header_size)

    def read(
        self, info: TensorInfo, start: int, stop: int, out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """The tensor's plain bytes from start to stop, in new memory or at the beginning of ``out``."""
        import numpy as np

        part = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
        if self._file.read_into(part, info.start + start) != len(part):
            raise changed_while_read(self.path)
        return part

    def data(self, info: TensorInfo) -> npt.NDArray[np.uint8]:
        """All of the tensor's plain bytes, in new memory."""
        return self.read(info, 0, info.nbytes)

    def chunks(self, info: TensorInfo) -> Iterator[npt.NDArray[np.uint8]]:
        """The tensor's plain bytes in pieces of at most ``CHUNK``, each of which is valid until the next one."""
        import numpy as np

        room = np.empty(min(CHUNK, info.nbytes), np.uint8)
        for start in range(0, info.nbytes, CHUNK):
            yield self.read(info, start, min(start + CHUNK, info.nbytes), room)

    def lazy(self, info: TensorInfo) -> PlainBytes:
        """The tensor's plain bytes, which are read when they are sliced."""
        return LazyBytes(self, info)

    def held(self, info: TensorInfo) -> TensorFile:
        """This file, which can be read in parts as it is."""
        return self


@dataclass(frozen=True)
class LazyBytes:
    """The plain bytes of a tensor in a file. A slice of them is read into new memory."""

    file: TensorFile
    info: TensorInfo

    def __len__(self) -> int:
        return self.info.nbytes

    def __getitem__(self, part: slice) -> npt.NDArray[np.uint8]:
        start, stop, _ = part.indices(self.info.nbytes)
        return self.file.read(self.info, start, max(start, stop))


PlainBytes: TypeAlias = "npt.NDArray[np.uint8] | LazyBytes"
"""Plain bytes of a tensor, in memory or read when they are sliced."""


def _parse(path: Path, header: bytes, data_size: int) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    try:
        fields = json.loads(header, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"has a header that is not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise _bad(path, "has a header that is not a JSON object")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, "has __metadata__ that is not a table of strings")
    origin = 8 + len(header)
    tensors = {name: _parse_tensor(path, name, field, origin) for name, field in fields.items()}
    _check_layout(path, tensors.values(), origin, origin + data_size)
    return tensors, metadata


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"duplicate name {twice!r}")
    return fields


def _parse_tensor(path: Path, name: str, field: Any, origin: int) -> TensorInfo:
    try:
        dtype, shape, (start, stop) = field["dtype"], field["shape"], field["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _bad(path, f"lists tensor {name!r} without dtype, shape and data_offsets") from error
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _bad(path, f"gives tensor {name!r} the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_count(n) for n in shape):
        raise _bad(path, f"gives tensor {name!r} the invalid shape {repr(shape)[:60]}")
    if not (_is_count(start) and _is_count(stop) and start <= stop):
        raise _bad(path, f"gives tensor {name!r} the invalid offsets {start!r}, {stop!r}")
    try:
        expected = byte_size(dtype, math.prod(shape))
    except ValueError as error:
        raise _bad(path, f"gives tensor {name!r} a fractional size: {error}") from error
    if expected != stop - start:
        raise _bad(path, f"gives tensor {name!r} {stop - start} bytes; {dtype} {shape} needs {expected}")
    return TensorInfo(name, dtype, tuple(shape), origin + start, origin + stop)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _check_layout(path: Path, tensors: Iterable[TensorInfo], origin: int, end: int) -> None:
    """Check that the tensors cover the data exactly once."""
    at = origin
    for info in sorted(tensors, key=lambda info: (info.start, info.stop)):
        if info.start != at:
            what = "overlaps another tensor" if info.start < at else "leaves a gap before it"
            raise _bad(path, f"has tensor {info.name!r} at an offset that {what}")
        at = info.stop
    if at > end:
        raise _bad(path, f"is truncated: its tensors need {at} bytes but the file has {end}")
    if at < end:
        raise _bad(path, f"has {end - at} bytes after its last tensor")


def changed_while_read(path: object) -> Storage:
    """An error about a user's file that another process wrote to during the read."""
    return Storage(
        f"{path} changed while it was being read",
        "Wait until the program that writes it has finished, then run the command again. Nothing was recorded.",
    )


def _bad(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {what}",
        "The file is damaged or not safetensors: copy or save it again. Nothing was recorded.",
    )


def layout(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, TensorInfo]]:
    """Lay out a new file; returns the bytes before the data and the place of each tensor.

    Args:
        tensors: (name, dtype, shape) in the order of the data.

    The header is padded with spaces to a multiple of 8, like the reference implementation's.
    """
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    infos: list[TensorInfo] = []
    for name, dtype, shape in tensors:
        start = infos[-1].stop if infos else 0
        infos.append(TensorInfo(name, dtype, tuple(shape), start, start + byte_size(dtype, math.prod(shape))))
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, infos[-1].stop]}
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {i.name: replace(i, start=len(head) + i.start, stop=len(head) + i.stop) for i in infos}
