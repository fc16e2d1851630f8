"""Finding the commit that introduced a vector or readout."""

from __future__ import annotations

from persona.history.commits import children_first, walk
from persona.ids import CommitId, ReadoutId, VectorId
from persona.repository import Repository


def first_commit(repo: Repository, what: VectorId | ReadoutId, also: CommitId | None) -> CommitId | None:
    """Find the oldest commit reachable from HEAD (or ``also``) whose recipe has a vector or readout.

    Oldest by ancestry, because several commits may have the same time.
    """
    walked = children_first(list(walk(repo.objects, [repo.head(), *([also] if also else [])])))
    mention = {commit.recipe for _, commit in walked if repo.objects.mentions(commit.recipe, what)}
    for name, commit in reversed(walked):
        if commit.recipe in mention and what in repo.recipe(name).names.values():
            return name
    return None
