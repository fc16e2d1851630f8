"""Snapshots of a memory graph, as objects of the store.

    node    {name, text, tags}          one node: what it specifies, and the scores that its last lines carry
    graph   {nodes, source, links}      a whole import: name → id of a node, where it came from, name → names

``tags`` and ``links`` are absent where there are none. A node's id is that of its name, text and tags; whether a vector
is stale is decided by ``text`` alone, so that new scores make nothing stale.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import UsageError
from persona.ids import GraphId, NodeId
from persona.store.objects import ObjectStore

Tags = Mapping[str, float | None]
"""A score by its name; None for a tag without one."""

LONGEST_NAME = 200
"""Characters of a node's name."""

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Node:
    """One node as it was imported; ``text`` is normalised and without its tags."""

    name: str
    text: str
    tags: Tags = field(default_factory=dict)

    def put(self, objects: ObjectStore) -> NodeId:
        """Keep it; its id."""
        fields = {"name": self.name, "text": self.text} | ({"tags": dict(self.tags)} if self.tags else {})
        return NodeId(objects.put("node", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: NodeId) -> Node:
        """Read it."""
        fields = objects.get(name, "node")
        return cls(fields["name"], fields["text"], fields.get("tags", {}))


@dataclass(frozen=True)
class GraphOrigin:
    """Where a graph came from: the name of a source, and the place as it was given, without passwords."""

    kind: str
    place: str


@dataclass(frozen=True)
class Graph:
    """A whole memory graph at one moment."""

    nodes: Mapping[str, NodeId]
    source: GraphOrigin
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def put(self, objects: ObjectStore) -> GraphId:
        """Keep it; its id."""
        fields: dict[str, Any] = {
            "nodes": dict(self.nodes),
            "source": {"kind": self.source.kind, "place": self.source.place},
        }
        links = {name: list(to) for name, to in self.links.items() if to}
        return GraphId(objects.put("graph", fields | ({"links": links} if links else {})))

    @classmethod
    def get(cls, objects: ObjectStore, name: GraphId) -> Graph:
        """Read it."""
        fields = objects.get(name, "graph")
        return cls(
            nodes={node: NodeId(value) for node, value in fields["nodes"].items()},
            source=GraphOrigin(fields["source"]["kind"], fields["source"]["place"]),
            links={node: tuple(to) for node, to in fields.get("links", {}).items()},
        )

    def find(self, reference: str) -> NodeId | None:
        """The node that ``NODE`` or ``NODE#SECTION`` means."""
        return self.nodes.get(split_reference(reference)[0])


def split_reference(reference: str) -> tuple[str, str | None]:
    """``NODE#SECTION`` as a name and a section; None without one. A node's own name has no ``#``."""
    name, mark, section = reference.partition("#")
    return unicodedata.normalize("NFC", name.strip()), section.strip() if mark else None


def checked_name(name: str, where: str) -> str:
    """``name``, composed (NFC), if it may name a node: any characters but those that would not show as they are."""
    text = unicodedata.normalize("NFC", name)
    bad = any(unicodedata.category(sign) in _CONTROL or sign in _BIDI for sign in text)
    if bad or not text.strip() or text != text.strip() or "#" in text or len(text) > LONGEST_NAME:
        raise UsageError(
            f"{where}: {name[:60]!a} cannot name a node",
            f"Give it 1 to {LONGEST_NAME} characters without '#', control characters and spaces at the ends.",
        )
    return text
