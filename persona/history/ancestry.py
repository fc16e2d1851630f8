"""Who descends from whom: ancestors, and where histories parted."""

from __future__ import annotations

from collections.abc import Iterable

from persona.history.commits import Commit
from persona.ids import CommitId
from persona.store.objects import ObjectStore


class Ancestry:
    """Parents of commits, each read once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._parents: dict[CommitId, tuple[CommitId, ...]] = {}
        self._below: dict[frozenset[CommitId], frozenset[CommitId]] = {}

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        """A commit's parents, in order."""
        if commit not in self._parents:
            self._parents[commit] = Commit.get(self._objects, commit).parents
        return self._parents[commit]

    def of(self, heads: Iterable[CommitId]) -> frozenset[CommitId]:
        """``heads`` and everything below them."""
        asked = frozenset(heads)
        if asked not in self._below:
            self._below[asked] = frozenset(self._walk(asked))
        return self._below[asked]

    def _walk(self, heads: Iterable[CommitId]) -> set[CommitId]:
        found: set[CommitId] = set()
        stack = list(heads)
        while stack:
            commit = stack.pop()
            if commit not in found:
                found.add(commit)
                stack += self.parents(commit)
        return found

    def merge_bases(self, ours: Iterable[CommitId], theirs: CommitId) -> list[CommitId]:
        """The best common ancestors: those that are below no other common one; several where histories crossed."""
        common = self.of(ours) & self.of([theirs])
        below = {parent for commit in common for parent in self.parents(commit)}
        return sorted(common - below)
