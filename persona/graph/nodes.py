"""Snapshots of a memory graph, as objects of the store.

    node    {name, text, tags}          a node: its specification, and the scores in its last lines
    graph   {nodes, source, links}      an import: name → id of a node, where it came from, name → names

``tags`` and ``links`` are left out if there are none. A node's id covers its name, text and tags, but whether a vector
is stale depends on ``text`` alone, so new scores do not make a vector stale.
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
"""Scores by name; None for a tag without a score."""

LONGEST_NAME = 200
"""Maximum number of characters of a node's name."""

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
_CONTROL = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Node:
    """A node as it was imported; ``text`` is normalized, without its tags."""

    name: str
    text: str
    tags: Tags = field(default_factory=dict)

    def put(self, objects: ObjectStore) -> NodeId:
        """Store the node and return its id."""
        fields = {"name": self.name, "text": self.text} | ({"tags": dict(self.tags)} if self.tags else {})
        return NodeId(objects.put("node", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: NodeId) -> Node:
        """Read a node."""
        fields = objects.get(name, "node")
        return cls(fields["name"], fields["text"], fields.get("tags", {}))


@dataclass(frozen=True)
class GraphOrigin:
    """Where a graph was imported from: the kind of source, and the place as it was given, without passwords."""

    kind: str
    place: str


@dataclass(frozen=True)
class Graph:
    """A memory graph at one moment."""

    nodes: Mapping[str, NodeId]
    source: GraphOrigin
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def put(self, objects: ObjectStore) -> GraphId:
        """Store the graph and return its id."""
        fields: dict[str, Any] = {
            "nodes": dict(self.nodes),
            "source": {"kind": self.source.kind, "place": self.source.place},
        }
        links = {name: list(to) for name, to in self.links.items() if to}
        return GraphId(objects.put("graph", fields | ({"links": links} if links else {})))

    @classmethod
    def get(cls, objects: ObjectStore, name: GraphId) -> Graph:
        """Read a graph."""
        fields = objects.get(name, "graph")
        return cls(
            nodes={node: NodeId(value) for node, value in fields["nodes"].items()},
            source=GraphOrigin(fields["source"]["kind"], fields["source"]["place"]),
            links={node: tuple(to) for node, to in fields.get("links", {}).items()},
        )

    def find(self, reference: str) -> NodeId | None:
        """Return the id of the node that ``NODE`` or ``NODE#SECTION`` names, or None."""
        return self.nodes.get(split_reference(reference)[0])


def split_reference(reference: str) -> tuple[str, str | None]:
    """Split ``NODE#SECTION`` into a name and a section, which is None if there is none. Names never contain ``#``."""
    name, mark, section = reference.partition("#")
    return unicodedata.normalize("NFC", name.strip()), section.strip() if mark else None


def checked_name(name: str, where: str) -> str:
    """Return ``name`` in Unicode's composed form (NFC), if it is valid for a node.

    Args:
        where: Place of the name, for the error message.

    Raises:
        UsageError: It is empty or too long, or has a ``#`` or characters that are not shown as they are.
    """
    text = unicodedata.normalize("NFC", name)
    bad = any(unicodedata.category(sign) in _CONTROL or sign in _BIDI for sign in text)
    if bad or not text.strip() or text != text.strip() or "#" in text or len(text) > LONGEST_NAME:
        raise UsageError(
            f"{where}: {name[:60]!a} is not a valid name for a node",
            f"Use 1 to {LONGEST_NAME} characters, without '#', control characters or spaces at the ends.",
        )
    return text
