"""Commits: a resolved recipe, its text, its parents, and what is known of the run.

    commit   {parents, recipe, text, author, time, message, run, graph}
    text     {text}     the persona.toml of the commit, to the byte

``recipe`` is the resolved meaning (full ids) and ``text`` the file a person wrote, comments and all, so that
``checkout`` brings back what was there. ``graph`` is the memory graph as it was imported last, and absent before.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from persona.ids import CommitId, GraphId, ObjectId, RecipeId
from persona.store.objects import ObjectStore


@dataclass(frozen=True)
class Commit:
    """One point in the history of a recipe."""

    recipe: RecipeId
    text: ObjectId
    parents: tuple[CommitId, ...]
    author: str
    time: str
    message: str
    run: Mapping[str, Any] = field(default_factory=dict)
    graph: GraphId | None = None

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.strip().partition("\n")[0]

    def put(self, objects: ObjectStore) -> CommitId:
        """Keep it; its id."""
        fields = {
            "recipe": self.recipe,
            "text": self.text,
            "parents": list(self.parents),
            "author": self.author,
            "time": self.time,
            "message": self.message,
            "run": dict(self.run),
        }
        return CommitId(objects.put("commit", fields | ({"graph": self.graph} if self.graph else {})))

    @classmethod
    def get(cls, objects: ObjectStore, name: CommitId) -> Commit:
        """Read it."""
        fields = objects.get(name, "commit")
        return cls(
            recipe=RecipeId(fields["recipe"]),
            text=ObjectId(fields["text"]),
            parents=tuple(CommitId(parent) for parent in fields["parents"]),
            author=fields["author"],
            time=fields["time"],
            message=fields["message"],
            run=fields["run"],
            graph=GraphId(fields["graph"]) if "graph" in fields else None,
        )


def put_text(objects: ObjectStore, text: str) -> ObjectId:
    """Keep a text; its id."""
    return objects.put("text", {"text": text})


def get_text(objects: ObjectStore, name: ObjectId) -> str:
    """Read a text."""
    return str(objects.get(name, "text")["text"])


def walk(objects: ObjectStore, heads: Sequence[CommitId]) -> Iterator[tuple[CommitId, Commit]]:
    """``heads`` and all their ancestors, newest first; among equals, children before parents."""
    queue: list[tuple[float, int, CommitId, Commit]] = []
    seen: set[CommitId] = set()

    def push(name: CommitId) -> None:
        if name not in seen:
            seen.add(name)
            commit = Commit.get(objects, name)
            heapq.heappush(queue, (-datetime.fromisoformat(commit.time).timestamp(), len(seen), name, commit))

    for head in heads:
        push(head)
    while queue:
        _, _, name, commit = heapq.heappop(queue)
        yield name, commit
        for parent in commit.parents:
            push(parent)


def children_first(found: Sequence[tuple[CommitId, Commit]]) -> list[tuple[CommitId, Commit]]:
    """``found`` in its order, but for commits that would stand before one of their children: those come behind it."""
    inside = dict(found)
    waiting = Counter(parent for commit in inside.values() for parent in commit.parents if parent in inside)
    rank = {name: number for number, name in enumerate(inside)}
    ready = [rank[name] for name in inside if not waiting[name]]
    order = list(inside)
    sorted_ = []
    heapq.heapify(ready)
    while ready:
        name = order[heapq.heappop(ready)]
        sorted_.append((name, inside[name]))
        for parent in inside[name].parents:
            if parent in inside:
                waiting[parent] -= 1
                if not waiting[parent]:
                    heapq.heappush(ready, rank[parent])
    return sorted_
