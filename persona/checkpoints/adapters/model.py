"""What an adapter does to a base, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from persona.checkpoints.dtypes import as_bits, widen
from persona.checkpoints.tensorfile import TensorFile, TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32

    Shape = tuple[int, ...]


class BaseView(Protocol):
    """What has to be known of the base checkpoint."""

    @property
    def names(self) -> Mapping[str, tuple[str, Shape]]:
        """Tensor name → (dtype, shape)."""

    @property
    def tied(self) -> Mapping[str, str]:
        """Names that the model has and the checkpoint has not → the tensor that they share."""

    def bits(self, name: str) -> Bits:
        """A tensor's bits in its shape: asked for when something is made dense, and for a copy that came along."""


@dataclass(frozen=True)
class Factor:
    """A factor as it is stored: a matrix of its first axis by all others, used as it is or transposed."""

    info: TensorInfo
    transposed: bool


@dataclass(frozen=True)
class LowRank:
    """ΔW = scale · L · R with L [rows, r] and R [r, columns], row by row in the base tensor's shape."""

    left: Factor
    right: Factor
    scale: float


@dataclass(frozen=True)
class MadeDense:
    """A whole tensor that scale · L · R cannot say; ``how`` names the reason ("DoRA", "lora_bias", …)."""

    name: str
    dtype: str
    shape: Shape
    how: str
    make: Callable[[], Bits] = field(repr=False)

    def compute(self) -> Bits:
        """The tensor's bits in its shape: computed in fp32, rounded once."""
        return self.make()


@dataclass(frozen=True)
class Adapter:
    """An adapter in terms of the base checkpoint's tensor names; a name is in one of the three tables at most.

    ``full`` tensors replace the base's, and may be new names, grown, or of another dtype. ``untied`` are names
    that the base shares with another tensor and that the adapter gives weights of their own: a folder built from
    them must say ``tie_word_embeddings: false``.
    """

    file: TensorFile
    config: dict[str, Any]
    low_rank: dict[str, LowRank]
    full: dict[str, TensorInfo]
    made: dict[str, MadeDense]
    untied: frozenset[str] = frozenset()


def values(file: TensorFile, info: TensorInfo) -> Float32:
    """A stored tensor in fp32, in its shape."""
    return widen(as_bits(file.data(info), info.dtype), info.dtype).reshape(info.shape)


def matrix(file: TensorFile, factor: Factor) -> Float32:
    """A factor in fp32 as the matrix it stands for, contiguous."""
    import numpy as np

    stored = values(file, factor.info)
    flat = stored.reshape(len(stored), -1)
    return np.ascontiguousarray(flat.T) if factor.transposed else flat
