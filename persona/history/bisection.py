"""Which commit made the difference: halving what is between a good one and a bad one.

Suspects are the commits that the bad one descends from (itself included) and no good one does. Of each suspect c it
is known how many suspects are below it, |below(c)|, itself counted. If c is good, those are cleared; if it is bad, only those
are left. So the next to be tested is the c with the largest min(|below(c)|, n − |below(c)|), as in git.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from persona.history.ancestry import Ancestry
from persona.ids import CommitId


@dataclass(frozen=True)
class Halving:
    """What is left. ``next`` is None when nothing more can be told: then ``suspects`` are the answer."""

    suspects: tuple[CommitId, ...]
    next: CommitId | None

    @property
    def steps(self) -> int:
        """Tests that are still needed, about."""
        return max(len(self.suspects) - 1, 0).bit_length()


def halve(ancestry: Ancestry, bad: CommitId, good: Iterable[CommitId], skipped: Set[CommitId] = frozenset()) -> Halving:
    """The suspects, the bad commit first, and the one to be tested next."""
    suspects = ancestry.of([bad]) - ancestry.of(good)
    order = _parents_first(ancestry, suspects, bad)
    below: dict[CommitId, int] = {}  # as bits: one for each suspect
    for number, commit in enumerate(order):
        below[commit] = 1 << number
        for parent in ancestry.parents(commit):
            below[commit] |= below.get(parent, 0)
    ranked = ((min(n := below[c].bit_count(), len(order) - n), c) for c in order if c != bad and c not in skipped)
    _, best = max(ranked, key=lambda one: one[0], default=(0, None))
    return Halving(tuple(reversed(order)), best)


def _parents_first(ancestry: Ancestry, suspects: Set[CommitId], bad: CommitId) -> list[CommitId]:
    """The suspects in an order in which parents come before their children."""
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
