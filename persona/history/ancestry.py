"""Ancestors of commits and merge bases."""

from __future__ import annotations

from collections.abc import Iterable

from persona.history.commits import Commit
from persona.ids import CommitId
from persona.store.objects import ObjectStore


class Ancestry:
    """The commit graph; reads each commit once."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._parents: dict[CommitId, tuple[CommitId, ...]] = {}
        self._reachable: dict[frozenset[CommitId], frozenset[CommitId]] = {}

    def parents(self, commit: CommitId) -> tuple[CommitId, ...]:
        """Return a commit's parents, in order."""
        if commit not in self._parents:
            self._parents[commit] = Commit.get(self._objects, commit).parents
        return self._parents[commit]

    def of(self, heads: Iterable[CommitId]) -> frozenset[CommitId]:
        """Return ``heads`` and all their ancestors."""
        starts = frozenset(heads)
        if starts not in self._reachable:
            self._reachable[starts] = frozenset(self._walk(starts))
        return self._reachable[starts]

    def _walk(self, heads: Iterable[CommitId]) -> set[CommitId]:
        seen: set[CommitId] = set()
        stack = list(heads)
        while stack:
            commit = stack.pop()
            if commit not in seen:
                seen.add(commit)
                stack += self.parents(commit)
        return seen

    def merge_bases(self, ours: Iterable[CommitId], theirs: CommitId) -> list[CommitId]:
        """Return the common ancestors that no other common ancestor descends from; several for criss-cross merges."""
        common = self.of(ours) & self.of([theirs])
        redundant = {parent for commit in common for parent in self.parents(commit)}
        return sorted(common - redundant)
