"""Lengths of a merged change: ‖δ‖ beside ‖Σ αᵢτᵢ‖, which is what ``linear`` would give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from persona.methods.parts.share import Share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Sizes(NamedTuple):
    """‖δ‖² and ‖Σ αᵢτᵢ‖², without λ."""

    merged: float = 0.0
    added: float = 0.0

    @classmethod
    def of(cls, merged: Any, taus: Sequence[Any], shares: Sequence[Share]) -> Sizes:
        """Measure δ beside the τᵢ that it was merged from; the arrays are fp32 or fp64 and of any one shape."""
        return cls(square(merged), square(summed(taus, shares)))

    def __add__(self, other: object) -> Sizes:
        """Add the squares of two parts of a model."""
        if not isinstance(other, Sizes):
            return NotImplemented
        return Sizes(self.merged + other.merged, self.added + other.added)


def summed(taus: Iterable[Any], shares: Iterable[Share]) -> npt.NDArray[np.floating]:
    """Return Σ αᵢ τᵢ in the dtype of the τᵢ."""
    total: Any = None
    for tau, share in zip(taus, shares, strict=True):
        moved = tau * tau.dtype.type(share.alpha)
        total = moved if total is None else total.__iadd__(moved)
    return total  # type: ignore[no-any-return]


def square(values: Any) -> float:
    """Return the sum of squares, in fp64 from block to block."""
    flat = values.reshape(-1)
    return sum(float(flat[at : at + _TILE] @ flat[at : at + _TILE]) for at in range(0, len(flat), _TILE))


_TILE = 1 << 14
