"""Small tensors, files and stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from persona.checkpoints.tensorfile import layout
from persona.ids import TensorId, tensor_id
from persona.store.tensors import Incoming, TensorStore


@dataclass
class Counter:
    """A task that remembers how far it got."""

    done: int = 0

    def advance(self, amount: int) -> None:
        self.done += amount


@dataclass(frozen=True)
class Plain:
    """A tensor by its plain bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def id(self) -> TensorId:
        return tensor_id(self.dtype, self.shape, [self.data])

    def incoming(self, base: TensorId | None = None, label: str = "") -> Incoming:
        array = np.frombuffer(self.data, np.uint8)
        return Incoming(self.id, self.dtype, self.shape, array, base, label)


def bf16(shape: tuple[int, ...], seed: int = 0, like: Plain | None = None) -> Plain:
    """Random weights, or weights a few steps away from those of ``like``."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if like is None:
        bits = (rng.normal(0, 0.02, count).astype("<f4").view("<u4") >> 16).astype("<u2")
    else:
        bits = np.frombuffer(like.data, "<u2")[:count] + rng.integers(0, 3, count).astype("<u2")
    return Plain("BF16", shape, bits.tobytes())


def write_safetensors(path: Path, tensors: Mapping[str, Plain]) -> Path:
    head, _ = layout([(name, t.dtype, t.shape) for name, t in tensors.items()], {"format": "pt"})
    path.write_bytes(head + b"".join(t.data for t in tensors.values()))
    return path


@pytest.fixture
def store(tmp_path: Path) -> TensorStore:
    return TensorStore(tmp_path / "packs", tmp_path / "tmp")
