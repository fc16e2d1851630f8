"""How long a build's change is beside the one that ``linear`` would make, measured while it is computed.

Methods that sparsify are measured on 1,024 entries in a million, and at least once in each tensor: they are as fast as
reading, and a factor of four shows in a sample. All other methods are measured on every entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from persona import methods
from persona.building.plan import Plan

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.methods.parts.rules import Rule
    from persona.methods.parts.sizes import Sizes
    from persona.methods.parts.work import Piece, Work

SAMPLE = 1 << 10
_STRIDE = 1 << 20
_TIMES = 4.0
"""A change that is so many times as long as that of ``linear``, or as short, is worth a note."""


class Lengths:
    """‖δ‖ and ‖Σ αᵢτᵢ‖ over the tensors of a plan that are computed."""

    def __init__(self, plan: Plan) -> None:
        from persona.methods.parts import rules

        self._plan = plan
        self._kind = rules.family_of(methods.load(plan.method))
        self._found: dict[str, tuple[Sizes, int]] = {}
        self._lock = Lock()

    def add(self, name: str, sizes: Sizes, entries: int) -> None:
        """Add what was measured on so many entries of a tensor."""
        with self._lock:
            if name in self._found:
                before, count = self._found[name]
                sizes, entries = sizes + before, entries + count
            self._found[name] = sizes, entries

    def combined(self, rule: Rule, work: Work, piece: Piece, state: Any) -> Float32:
        """Return δ of a piece by the method's rule, and measure it."""
        from persona.methods.parts.core import Thin
        from persona.methods.parts.sizes import Sizes, square, summed

        if isinstance(state, Thin):
            if piece.start == 0:
                self.add(work.name, state.sizes, work.entries)
            return rule.combine(work, piece, state)
        if self._kind is not None:
            if self.is_sampled(piece.start, len(piece.base)):
                self.sample(work, piece.start, piece.base, piece.deltas, state)
            return rule.combine(work, piece, state)
        added = square(summed(piece.deltas, work.shares))
        delta = rule.combine(work, piece, state)
        self.add(work.name, Sizes(square(delta), added), len(delta))
        return delta

    def is_sampled(self, start: int, count: int) -> bool:
        """Whether a piece of so many entries from ``start`` is one to take a sample of."""
        return start % _STRIDE < count

    def sample(self, work: Work, start: int, base: Float32, deltas: Sequence[Float32], thinned: Any) -> None:
        """Measure the first entries of a piece; whole rows, if entries are ranked in them."""
        from persona.methods.parts import family
        from persona.methods.parts.sizes import Sizes
        from persona.methods.parts.work import Piece

        assert self._kind is not None
        count = min(SAMPLE, len(base))
        if self._kind.sparsify == "ranked":
            count = -(-count // work.columns) * work.columns
        taus = [tau[:count] for tau in deltas]
        merged = family.combine(self._kind, work, Piece(start, base[:count], [tau.copy() for tau in taus]), thinned)
        self.add(work.name, Sizes.of(merged, taus, work.shares), count)

    def note(self) -> str | None:
        """Say how the lengths compare, if they are far apart and ``scale`` does not make up for it."""
        entries = {output.name: output.base.entries for output in self._plan.outputs if output.base is not None}
        merged, added = (self._total(entries, which) for which in (0, 1))
        if not (math.isfinite(merged) and 0 < added < math.inf):
            return None
        ratio = math.sqrt(merged / added)
        if not (_is_far(ratio) and _is_far(ratio * abs(self._plan.scale))):
            return None
        return (
            f"the merged change has {_said(ratio)} times the norm that linear would give it "
            f"(method '{self._plan.method}'); 'scale' in [merge] changes it"
        )

    def _total(self, entries: Mapping[str, int], which: int) -> float:
        return math.fsum(sizes[which] * entries[name] / count for name, (sizes, count) in self._found.items())


def lengths_of(plan: Plan) -> Lengths | None:
    """Return where to measure a plan; None for ``linear`` itself."""
    return None if methods.ALIASES.get(plan.method, plan.method) == "linear" else Lengths(plan)


def _is_far(ratio: float) -> bool:
    return not 1 / _TIMES <= ratio <= _TIMES


def _said(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
