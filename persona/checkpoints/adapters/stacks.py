"""The factors of experts that are stacked in one parameter, and the change of each expert.

ΔW[e] = s · B_e · A_e      A_e = A[e·r : (e+1)·r],  B_e = B[:, e::E] for E experts of rank r
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.model import Factor, LowRank, values
from persona.checkpoints.tensorfile import TensorFile, TensorInfo

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class ExpertPiece:
    """A base tensor that holds rows ``start`` to ``stop`` of one expert."""

    name: str
    expert: int
    start: int
    stop: int


@dataclass(frozen=True)
class Stack:
    """The factors of all experts, stacked."""

    file: TensorFile
    a: TensorInfo
    b: TensorInfo
    experts: int
    scale: float
    turned: bool

    def low_rank(self, piece: ExpertPiece) -> LowRank:
        """The change of some rows of one expert."""
        rank = self.a.shape[0] // self.experts
        left = Factor(self.b, False, (piece.start, piece.stop, 1), (piece.expert, self.b.shape[1], self.experts))
        right = Factor(self.a, False, (piece.expert * rank, (piece.expert + 1) * rank, 1))
        return LowRank(left, right, self.scale)

    def summed(self, origin: BaseTensor, piece: ExpertPiece) -> Float32:
        """W + ΔW of all experts, or of some rows of one."""
        w = origin.read()
        whole = piece.expert < 0
        for expert, (left, right) in self._factors():
            if whole:
                w[expert] += dense.product(left, right, self.scale)
            elif expert == piece.expert:
                w += dense.product(left[piece.start : piece.stop], right, self.scale)
        return w

    def _factors(self) -> Iterator[tuple[int, tuple[Float32, Float32]]]:
        import numpy as np

        a = values(self.file, self.a).reshape(self.experts, -1, self.a.shape[1])
        b = values(self.file, self.b).reshape(self.b.shape[0], -1, self.experts)
        for expert in range(self.experts):
            left, right = np.ascontiguousarray(b[:, :, expert]), a[expert]
            yield (
                expert,
                (np.ascontiguousarray(right.T), np.ascontiguousarray(left.T)) if self.turned else (left, right),
            )
