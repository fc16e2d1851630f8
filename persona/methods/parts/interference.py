"""How much vectors interfere at one tensor: sums and counts, from one pass over its blocks.

    G[i][j]       = ⟨τᵢ, τⱼ⟩                      of all τ that are compared; also ‖W_base‖²
    both[i][j]    = #{vᵢ ≠ 0 and vⱼ ≠ 0}          vᵢ = αᵢ τᵢ before the trim, αᵢ τ̂ᵢ after it
    opposed[i][j] = #{vᵢ vⱼ < 0}
    shared        = #{at least two vᵢ ≠ 0}         conflicting = #{some vᵢ > 0 and some vⱼ < 0}
    mass[i]       = Σ |vᵢ|                          after the trim
    elected[i]    = Σ {|vᵢ| : vᵢ s > 0}            s the sign of P + N, see ``family.py``

Sums are fp64 and do not depend on how the tensor is split into blocks (``sums.py``); counts are exact. A NaN has no
sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from persona.methods.parts import family
from persona.methods.parts.family import Thinned
from persona.methods.parts.kinds import Gram
from persona.methods.parts.sums import Dot
from persona.methods.parts.work import Work

if TYPE_CHECKING:
    from persona.methods.parts.work import Float32

Counts = list[list[int]]


@dataclass(frozen=True)
class Signs:
    """Counts of entries by sign; the diagonal of ``both`` counts the entries of each vector that are not 0."""

    both: Counts
    opposed: Counts
    shared: int
    conflicting: int


@dataclass(frozen=True)
class SignSums:
    """The sums and counts of one tensor; see the formulas above."""

    base: float
    gram: Gram
    plain: Signs
    trimmed: Signs
    mass: list[float]
    elected_mass: list[float]
    elected: list[int]


def measure(work: Work, thinned: Sequence[Thinned], taus: int, advance: Callable[[int], None]) -> SignSums:
    """Measure one tensor.

    Args:
        thinned: How each vector is trimmed.
        taus: Number of τ in each piece. Those beyond the shares of `work` (vectors before a change) count in G only.
        advance: Called with the number of entries of each block that is done.
    """
    tally = _Tally(taus, len(work.shares))
    alphas = [share.alpha for share in work.shares]
    for piece in work.pieces():
        tally.lengths(piece.base, piece.deltas)
        tally.plain.add([_signs(tau, alpha) for tau, alpha in zip(piece.deltas, alphas, strict=False)])
        values = []
        for tau, share, how in zip(piece.deltas, work.shares, thinned, strict=False):
            values.append(family.sparse(tau, share, how, piece.start, work.columns))
            values[-1] *= np.float32(share.alpha)
        tally.trimmed.add([_signs(value) for value in values])
        tally.vote(values)
        advance(len(piece.base))
    return tally.sums()


class _Tally:
    def __init__(self, taus: int, voters: int) -> None:
        self._base = Dot()
        self._dots = {(i, j): Dot() for i in range(taus) for j in range(i + 1)}
        self._taus = taus
        self.plain = _SignTally(voters)
        self.trimmed = _SignTally(voters)
        self._mass = [Dot() for _ in range(voters)]
        self._elected_mass = [Dot() for _ in range(voters)]
        self._elected = [0] * voters

    def lengths(self, base: Float32, taus: Sequence[Float32]) -> None:
        self._base.add(base, base)
        for (i, j), total in self._dots.items():
            total.add(taus[i], taus[j])

    def vote(self, values: Sequence[Float32]) -> None:
        """Count the entries that have the elected sign."""
        if not values:
            return
        sign = np.sign(balance(values))
        for i, value in enumerate(values):
            self._mass[i].add(np.abs(value), None)
            value *= sign
            self._elected[i] += int(np.count_nonzero(value > 0))
            self._elected_mass[i].add(np.maximum(value, 0), None)

    def sums(self) -> SignSums:
        size = range(self._taus)
        return SignSums(
            self._base.value,
            [[self._dots[max(i, j), min(i, j)].value for j in size] for i in size],
            self.plain.signs(),
            self.trimmed.signs(),
            [dot.value for dot in self._mass],
            [dot.value for dot in self._elected_mass],
            self._elected,
        )


def balance(values: Sequence[Float32]) -> Float32:
    """Return P + N as the election adds them up: each in recipe order, in fp32."""
    positive, negative = np.zeros((2, len(values[0])), np.float32)
    for value in values:
        positive += np.maximum(value, 0)
        negative += np.minimum(value, 0)
    positive += negative
    total: Float32 = positive
    return total


def _signs(values: Float32, alpha: float = 1.0) -> tuple[Any, Any]:
    """Return where α times the values is positive, and where negative, one bit per entry."""
    above, below = np.packbits(values > 0), np.packbits(values < 0)
    return (above, below) if alpha > 0 else (below, above)


def _count(bits: Any) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


class _SignTally:
    def __init__(self, voters: int) -> None:
        self._both: Counts = [[0] * voters for _ in range(voters)]
        self._opposed: Counts = [[0] * voters for _ in range(voters)]
        self._shared = 0
        self._conflicting = 0

    def add(self, signs: Sequence[tuple[Any, Any]]) -> None:
        """Add a block: for each vector, the bits where it is above 0 and below 0."""
        there = [above | below for above, below in signs]
        for i, (above, below) in enumerate(signs):
            self._both[i][i] += _count(there[i])
            for j in range(i):
                both = _count(there[i] & there[j])
                opposed = _count((above & signs[j][1]) | (below & signs[j][0]))
                for row, column in ((i, j), (j, i)):
                    self._both[row][column] += both
                    self._opposed[row][column] += opposed
        if len(signs) > 1:
            self._together(signs, there)

    def _together(self, signs: Sequence[tuple[Any, Any]], there: Sequence[Any]) -> None:
        once, twice = np.zeros_like(there[0]), np.zeros_like(there[0])
        above, below = np.zeros_like(once), np.zeros_like(once)
        for (up, down), nonzero in zip(signs, there, strict=True):
            twice |= once & nonzero
            once |= nonzero
            above |= up
            below |= down
        self._shared += _count(twice)
        self._conflicting += _count(above & below)

    def signs(self) -> Signs:
        return Signs(self._both, self._opposed, self._shared, self._conflicting)
