"""What changed between two snapshots of a graph."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from persona.graph.nodes import Graph, Node
from persona.ids import NodeId
from persona.store.objects import ObjectStore

LONGEST = 20_000
"""Lines of a text that is compared line by line."""


@dataclass(frozen=True)
class NodeChange:
    """One node: ``added``, ``removed``, ``changed``, or ``scored`` where only its tags differ."""

    kind: str
    name: str
    before: NodeId | None
    after: NodeId | None


def changed_nodes(before: Graph | None, after: Graph, objects: ObjectStore) -> list[NodeChange]:
    """Every node in which two graphs differ, by name."""
    old = before.nodes if before else {}
    found = []
    for name in sorted({*old, *after.nodes}):
        one, other = old.get(name), after.nodes.get(name)
        if one != other:
            found.append(NodeChange(_kind(one, other, objects), name, one, other))
    return found


def _kind(before: NodeId | None, after: NodeId | None, objects: ObjectStore) -> str:
    if before is None or after is None:
        return "added" if before is None else "removed"
    same = Node.get(objects, before).text == Node.get(objects, after).text
    return "scored" if same else "changed"


def summary(before: Graph | None, after: Graph, changes: list[NodeChange]) -> str:
    """``5 nodes (2 new, 1 changed)``."""
    words = {"added": "new", "changed": "changed", "removed": "removed", "scored": "with new scores"}
    counts = [(sum(one.kind == kind for one in changes), word) for kind, word in words.items()]
    parts = [f"{number} {word}" for number, word in counts if number]
    if before is not None and before.links != after.links:
        parts.append("other links")
    total = f"{len(after.nodes)} node{'' if len(after.nodes) == 1 else 's'}"
    return f"{total} ({', '.join(parts)})" if parts else total


def patch(before: str, after: str) -> Iterator[str]:
    """A unified diff of two texts, without its head; whole texts where they are too long to be compared."""
    old, new = before.split("\n") if before else [], after.split("\n") if after else []
    if max(len(old), len(new)) > LONGEST:
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    for number, line in enumerate(difflib.unified_diff(old, new, n=2, lineterm="")):
        if number >= 2:
            yield line
