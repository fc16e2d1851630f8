"""Commits: a resolved recipe, its text, its parents, and facts about the training run.

    commit   {parents, recipe, text, author, time, message, run, graph}
    text     {text}     the persona.toml of the commit, byte for byte

``recipe`` is the resolved meaning, with full ids, and ``text`` the file as written, comments included, so that
``checkout`` restores it exactly. ``graph`` is the last imported memory graph, absent before the first import.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from persona.ids import CommitId, GraphId, ObjectId, RecipeId
from persona.store.fields import ident, moment, rows, table, text
from persona.store.objects import Fields, ObjectStore, decoding

T = TypeVar("T")


@dataclass(frozen=True)
class Commit:
    """One commit in the history of a recipe."""

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
        """Store the commit and return its id."""
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
        """Read a commit.

        Raises:
            Damaged: the object is missing, damaged or not a valid commit.
        """
        fields = objects.get(name, "commit")
        with decoding("commit", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Commit:
        """Decode the fields of an object; ValueError or KeyError if they are not a commit's."""
        return cls(
            recipe=ident(RecipeId, fields["recipe"], "recipe"),
            text=ident(ObjectId, fields["text"], "text"),
            parents=tuple(ident(CommitId, parent, "a parent") for parent in rows(fields["parents"], "parents")),
            author=text(fields["author"], "author"),
            time=moment(fields["time"], "time"),
            message=text(fields["message"], "message"),
            run=table(fields["run"], "run"),
            graph=ident(GraphId, fields["graph"], "graph") if "graph" in fields else None,
        )


def put_text(objects: ObjectStore, content: str) -> ObjectId:
    """Store a text and return its id."""
    return objects.put("text", {"text": content})


def get_text(objects: ObjectStore, name: ObjectId) -> str:
    """Read a text; Damaged if the object is missing, damaged or not a valid text."""
    fields = objects.get(name, "text")
    with decoding("text", name):
        return decode_text(fields)


def decode_text(fields: Fields) -> str:
    """Decode the fields of a text; ValueError or KeyError if they are none."""
    return text(fields["text"], "text")


def walk(objects: ObjectStore, heads: Sequence[CommitId]) -> Iterator[tuple[CommitId, Commit]]:
    """Yield ``heads`` and all their ancestors, newest first; at equal times, children before parents."""
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


def children_first(history: Sequence[tuple[CommitId, Commit]]) -> list[tuple[CommitId, Commit]]:
    """Return ``history`` in its order, except that a commit listed before one of its children moves behind it."""
    inside = dict(history)
    return [(name, inside[name]) for name in sort_children_first({n: c.parents for n, c in inside.items()})]


def sort_children_first(parents: Mapping[T, Sequence[T]]) -> list[T]:
    """Sort commits topologically, children first, and keep their order otherwise.

    Args:
        parents: The parents of each commit; parents that are not keys themselves are ignored.
    """
    waiting = Counter(parent for names in parents.values() for parent in names)
    order = list(parents)
    rank = {name: number for number, name in enumerate(order)}
    ready = [rank[name] for name in order if not waiting[name]]
    done = []
    while ready:
        name = order[heapq.heappop(ready)]
        done.append(name)
        for parent in parents[name]:
            waiting[parent] -= 1
            if not waiting[parent] and parent in rank:
                heapq.heappush(ready, rank[parent])
    return done
