"""Where a vector or a readout came into a history."""

from __future__ import annotations

from persona.history.commits import children_first, walk
from persona.ids import CommitId, ReadoutId, VectorId
from persona.repository import Repository


def first_commit(repo: Repository, what: VectorId | ReadoutId, also: CommitId | None) -> CommitId | None:
    """The oldest commit at or below HEAD, and ``also`` if given, whose recipe has it. By ancestry: one of the two may be below
    the other, and commits may be of one second.
    """
    walked = children_first(list(walk(repo.objects, [repo.head(), *([also] if also else [])])))
    mention = {commit.recipe for _, commit in walked if repo.objects.mentions(commit.recipe, what)}
    for name, commit in reversed(walked):
        if commit.recipe in mention and what in repo.recipe(name).names.values():
            return name
    return None
