"""Tensors that are made of other tensors of a checkpoint when they are read.

:class:`Conversion` takes a run's tensors to the parameters of the loaded model, and these to the base's tensors, by
transformers' own operations; :mod:`persona.checkpoints.alignment` decides which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import CHUNK, TensorInfo, TensorSource

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from persona.checkpoints.conversions import Group

    Shape = tuple[int, ...]
    Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Computed:
    """A tensor that is made of tensors of a checkpoint when it is read."""

    path: Path
    make: Callable[[], Bytes] = field(repr=False)

    def read(self, info: TensorInfo, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """The tensor's plain bytes from start to stop."""
        return self.make()[start:stop]

    def data(self, info: TensorInfo) -> Bytes:
        """All of the tensor's plain bytes."""
        return self.make()

    def chunks(self, info: TensorInfo) -> Iterator[Bytes]:
        """The tensor's plain bytes in pieces of at most ``CHUNK``."""
        data = self.make()
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    def lazy(self, info: TensorInfo) -> Bytes:
        """All of the tensor's plain bytes."""
        return self.make()

    def held(self, info: TensorInfo) -> Computed:
        """The same with its bytes in memory."""
        data = self.make()
        return Computed(self.path, lambda: data)


def same_but_rows(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes agree up to the number of rows (tokens), which are the columns of a matrix with one row."""
    if len(shape) == len(wanted) == 2 and shape[0] == wanted[0] == 1:
        return True
    return shape == wanted or (len(shape) == len(wanted) in (1, 2) and shape[1:] == wanted[1:])


class Latest:
    """What the latest conversion made, which several tensors are taken from one after the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._conversion: Conversion | None = None
        self._made: dict[str, torch.Tensor] = {}

    def of(self, conversion: Conversion) -> dict[str, torch.Tensor]:
        """What a conversion makes."""
        with self._lock:
            if conversion is not self._conversion:
                self._conversion, self._made = None, {}  # before the next one takes memory
                self._made = conversion.convert()
                self._conversion = conversion
            return self._made


class Conversion:
    """Tensors of a base that are made of a run's, by way of the loaded model's parameters."""

    def __init__(self, checkpoint: Checkpoint, target: Group, sources: tuple[Group, ...], latest: Latest) -> None:
        self.checkpoint, self.target, self.sources, self._latest = checkpoint, target, sources, latest
        self.used = {file for source in sources for file in source.files}

    def tensors(self, base: Mapping[str, Shape]) -> dict[str, tuple[TensorInfo, TensorSource]]:
        """The base's tensors of this group; none if the run's do not convert to the base's shapes."""
        infos = [self.checkpoint.infos[name] for name in self.used]
        dtypes = {info.dtype for info in infos}
        try:
            shapes = {name: tuple(tensor.shape) for name, tensor in self._through(self._empty).items()}
        except ValueError:
            return {}
        if len(dtypes) != 1 or any(not same_but_rows(shapes.get(name, ()), base[name]) for name in self.target.files):
            return {}
        if self._plain:
            return self._as_stored()
        dtype, path = dtypes.pop(), self.checkpoint.owner[infos[0].name].path
        size = sum(info.nbytes for info in infos) // max(1, sum(math.prod(s) for s in shapes.values()))
        made: dict[str, tuple[TensorInfo, TensorSource]] = {}
        for name in self.target.files:
            info = TensorInfo(name, dtype, shapes[name], 0, math.prod(shapes[name]) * size)
            made[name] = (info, Computed(path, partial(self._bytes, name)))
        return made

    @property
    def _plain(self) -> bool:
        """Whether one tensor is only renamed."""
        return self.target.converter is None and all(source.converter is None for source in self.sources)

    def _as_stored(self) -> dict[str, tuple[TensorInfo, TensorSource]]:
        (old,), (new,) = self.sources[0].files, self.target.files
        return {new: (replace(self.checkpoint.infos[old], name=new), self.checkpoint.owner[old])}

    def _bytes(self, name: str) -> Bytes:
        import torch

        data: Bytes = self._latest.of(self)[name].contiguous().reshape(-1).view(torch.uint8).numpy()
        return data

    def convert(self) -> dict[str, torch.Tensor]:
        """The base's tensors of this group."""
        return self._through(self._read)

    def _through(self, read: Callable[[str], torch.Tensor]) -> dict[str, torch.Tensor]:
        parameters: dict[str, torch.Tensor] = {}
        for source in self.sources:
            parameters |= source.convert({name: read(name) for name in source.files})
        return self.target.revert({name: parameters[name] for name in self.target.parameters})

    def _empty(self, name: str) -> torch.Tensor:
        import torch

        return torch.empty(self.checkpoint.infos[name].shape, device="meta", dtype=torch.uint8)

    def _read(self, name: str) -> torch.Tensor:
        import numpy as np
        import torch

        info = self.checkpoint.infos[name]
        data = np.array(self.checkpoint.owner[name].data(info))
        dtype = getattr(torch, _TORCH[info.dtype])
        return torch.from_numpy(data).view(dtype).reshape(info.shape)


_TORCH = {
    "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32",
    "I64": "int64", "BOOL": "bool",
}  # fmt: skip
