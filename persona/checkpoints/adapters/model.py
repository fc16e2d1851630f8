"""Data types for an adapter's changes to a base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from persona.checkpoints.dtypes import as_bits, widen
from persona.checkpoints.tensorfile import TensorFile, TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits, Float32
    from persona.checkpoints.modules import Modules

    Shape = tuple[int, ...]


class BaseView(Protocol):
    """What the reader needs to know about the base checkpoint."""

    @property
    def names(self) -> Mapping[str, tuple[str, Shape]]:
        """Tensor name → (dtype, shape)."""

    @property
    def tied(self) -> Mapping[str, str]:
        """Names that the model has but the checkpoint does not → the tensor that they share."""

    @property
    def modules(self) -> Modules | None:
        """The loaded model, if transformers has it; asked only where names and shapes leave a question open."""

    def bits(self, name: str) -> Bits:
        """A tensor's bits in its shape; called only for tensors that are made dense or that the adapter has a copy of."""


@dataclass(frozen=True)
class Factor:
    """A factor as stored: a matrix of its first axis by all others, possibly to be transposed.

    ``rows`` and ``columns`` select a part of the stored matrix, such as one expert's, as (start, stop, step); ``expert``
    selects the matrix of one expert in a stored tensor [experts, …].
    """

    info: TensorInfo
    transposed: bool
    rows: tuple[int, int, int] | None = None
    columns: tuple[int, int, int] | None = None
    expert: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether it is a part of the stored tensor."""
        return self.rows is not None or self.columns is not None or self.expert is not None

    @property
    def label(self) -> str:
        """The tensor's name, and the part of it."""
        if self.expert is not None:
            return f"{self.info.name}[{self.expert}]"
        cuts = (":".join(map(str, cut)) if cut else "" for cut in (self.rows, self.columns))
        return f"{self.info.name}[{', '.join(cuts)}]" if self.is_cut else self.info.name

    def cut(self, stored: Bits) -> Bits:
        """The selected part of the stored tensor."""
        rows, columns = (slice(*cut) if cut else slice(None) for cut in (self.rows, self.columns))
        part: Bits = stored if self.expert is None else stored[self.expert]
        return part if self.rows is None and self.columns is None else part[rows, columns]


@dataclass(frozen=True)
class LowRank:
    """ΔW = scale · L · R with L [rows, r] and R [r, columns], row-major in the base tensor's shape."""

    left: Factor
    right: Factor
    scale: float


@dataclass(frozen=True)
class MadeDense:
    """A whole tensor, for a change that scale · L · R cannot express; ``how`` is the reason ("DoRA", "lora_bias", …)."""

    name: str
    dtype: str
    shape: Shape
    how: str
    make: Callable[[], Bits] = field(repr=False)

    def compute(self) -> Bits:
        """Compute the tensor's bits in its shape: in fp32, rounded once."""
        return self.make()


@dataclass(frozen=True)
class Adapter:
    """An adapter as changes to the base's tensors, by name; a name is in at most one of the three tables.

    Attributes:
        low_rank: Tensors that change by scale · L · R.
        full: Tensors that replace the base's; they may be new, have more rows or another dtype.
        made: Tensors that have to be computed.
        untied: Tied names that the adapter gives their own weights, so that a folder built from it needs
            ``tie_word_embeddings: false``.
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
    """A factor as a contiguous fp32 matrix, transposed if it has to be."""
    import numpy as np

    stored = widen(factor_bits(file, factor), factor.info.dtype)
    flat = stored.reshape(len(stored), -1)
    return np.ascontiguousarray(flat.T) if factor.transposed else flat


def factor_bits(file: TensorFile, factor: Factor) -> Bits:
    """A factor's bits as stored, of the selected part."""
    import numpy as np

    return np.ascontiguousarray(factor.cut(_stored(file, factor.info)))


def _stored(file: TensorFile, info: TensorInfo) -> Bits:
    return as_bits(file.data(info), info.dtype).reshape(info.shape)


class Cuts:
    """Parts of stored factors. The tensors that were read last are kept: those of one layer's experts come in a row."""

    KEPT = 4

    def __init__(self, file: TensorFile) -> None:
        self.file = file
        self._held: dict[str, Bits] = {}

    def bits(self, factor: Factor) -> Bits:
        """See :func:`factor_bits`."""
        import numpy as np

        name = factor.info.name
        if name not in self._held:
            while len(self._held) >= self.KEPT:
                del self._held[next(iter(self._held))]
            self._held[name] = _stored(self.file, factor.info)
        return np.ascontiguousarray(factor.cut(self._held[name]))
