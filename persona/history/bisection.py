"""Bisection: halve the commits between a good and a bad one until the culprit is left.

Suspects are the commits that the bad one descends from (itself included) and that no good one descends from. If
suspect c is good, it and the suspects below it, |below(c)| in all, are cleared; if c is bad, only those remain. So
the next to test is the c with the largest min(|below(c)|, n − |below(c)|), as in git.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from persona.history.ancestry import Ancestry
from persona.ids import CommitId


@dataclass(frozen=True)
class Halving:
    """The state of a bisection. ``next`` is None when nothing more can be tested: ``suspects`` are the answer."""

    suspects: tuple[CommitId, ...]
    next: CommitId | None

    @property
    def steps(self) -> int:
        """The approximate number of tests still needed."""
        return max(len(self.suspects) - 1, 0).bit_length()


def halve(ancestry: Ancestry, bad: CommitId, good: Iterable[CommitId], skipped: Set[CommitId] = frozenset()) -> Halving:
    """Return the suspects, the bad commit first, and the one to test next.

    Args:
        bad: A commit that has the fault.
        good: Commits that do not.
        skipped: Commits that cannot be tested.
    """
    suspects = ancestry.of([bad]) - ancestry.of(good)
    order = _parents_first(ancestry, suspects, bad)
    below: dict[CommitId, int] = {}  # a bit set of suspects
    for number, commit in enumerate(order):
        below[commit] = 1 << number
        for parent in ancestry.parents(commit):
            below[commit] |= below.get(parent, 0)
    ranked = ((min(n := below[c].bit_count(), len(order) - n), c) for c in order if c != bad and c not in skipped)
    _, best = max(ranked, key=lambda pair: pair[0], default=(0, None))
    return Halving(tuple(reversed(order)), best)


def _parents_first(ancestry: Ancestry, suspects: Set[CommitId], bad: CommitId) -> list[CommitId]:
    """Return the suspects with parents before their children."""
    order: dict[CommitId, None] = {}
    stack = [(bad, False)]
    while stack:
        commit, entered = stack.pop()
        if entered:
            order[commit] = None
        elif commit in suspects and commit not in order:
            stack.append((commit, True))
            stack += [(parent, False) for parent in reversed(ancestry.parents(commit))]
    return list(order)
