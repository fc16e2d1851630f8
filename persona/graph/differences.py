"""Changes between two snapshots of a graph."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from persona.ids import NodeId
from persona.store.graphs import Graph, Node
from persona.store.objects import ObjectStore

LONGEST = 20_000
"""Maximum number of lines for a line-by-line diff."""


@dataclass(frozen=True)
class NodeChange:
    """A node that differs: ``added``, ``removed``, ``changed``, or ``scored`` if only its tags differ."""

    kind: str
    name: str
    before: NodeId | None
    after: NodeId | None


def changed_nodes(before: Graph | None, after: Graph, objects: ObjectStore) -> list[NodeChange]:
    """Return every node in which two graphs differ, sorted by name."""
    old = before.nodes if before else {}
    names = sorted({*old, *after.nodes})
    pairs = ((name, old.get(name), after.nodes.get(name)) for name in names)
    return [NodeChange(_kind(was, now, objects), name, was, now) for name, was, now in pairs if was != now]


def _kind(before: NodeId | None, after: NodeId | None, objects: ObjectStore) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    same = Node.get(objects, before).text == Node.get(objects, after).text
    return "scored" if same else "changed"


def summary(before: Graph | None, after: Graph, changes: list[NodeChange]) -> str:
    """Summarize an import: ``5 nodes (2 new, 1 changed)``."""
    words = {"added": "new", "changed": "changed", "removed": "removed", "scored": "with new scores"}
    counts = [(sum(change.kind == kind for change in changes), word) for kind, word in words.items()]
    parts = [f"{number} {word}" for number, word in counts if number]
    if before is not None and before.links != after.links:
        parts.append("other links")
    total = f"{len(after.nodes)} node{'' if len(after.nodes) == 1 else 's'}"
    return f"{total} ({', '.join(parts)})" if parts else total


def patch(before: str, after: str) -> Iterator[str]:
    """Yield a unified diff of two texts, without its header; both texts in full if they are too long to compare."""
    old, new = before.split("\n") if before else [], after.split("\n") if after else []
    if max(len(old), len(new)) > LONGEST:
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    for number, line in enumerate(difflib.unified_diff(old, new, n=2, lineterm="")):
        if number >= 2:
            yield line
