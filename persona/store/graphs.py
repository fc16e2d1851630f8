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
from persona.store.fields import ident, number, shown, table, text, texts
from persona.store.objects import Fields, ObjectStore, decoding

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
        """Read a node.

        Raises:
            Damaged: the object is missing, damaged or not a valid node.
        """
        fields = objects.get(name, "node")
        with decoding("node", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Node:
        """Decode the fields of an object; ValueError or KeyError if they are not a node's."""
        tags = table(fields.get("tags", {}), "tags").items()
        return cls(
            _decoded_name(fields["name"]),
            text(fields["text"], "text"),
            {tag: None if value is None else number(value, f"the tag {shown(tag)}") for tag, value in tags},
        )


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
        """Read a graph.

        Raises:
            Damaged: the object is missing, damaged or not a valid graph.
        """
        fields = objects.get(name, "graph")
        with decoding("graph", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Graph:
        """Decode the fields of an object; ValueError or KeyError if they are not a graph's."""
        source = table(fields["source"], "source")
        nodes, links = table(fields["nodes"], "nodes"), table(fields.get("links", {}), "links")
        return cls(
            nodes={
                _decoded_name(node): ident(NodeId, value, f"the node {shown(node)}") for node, value in nodes.items()
            },
            source=GraphOrigin(text(source["kind"], "the source's kind"), text(source["place"], "the source's place")),
            links={node: texts(to, f"the links of {shown(node)}") for node, to in links.items()},
        )

    def find(self, reference: str) -> NodeId | None:
        """Return the id of the node that ``NODE`` or ``NODE#SECTION`` names, or None."""
        return self.nodes.get(split_reference(reference)[0])


def split_reference(reference: str) -> tuple[str, str | None]:
    """Split ``NODE#SECTION`` into a name and a section, which is None if there is none. Names never contain ``#``."""
    name, mark, section = reference.partition("#")
    return unicodedata.normalize("NFC", name.strip()), section.strip() if mark else None


def _decoded_name(value: object) -> str:
    """The name of a node in an object, as an import would have written it."""
    name = text(value, "the name of a node")
    if not is_name(name):
        raise ValueError(f"{shown(name)} is not a valid name for a node")
    return name


def is_name(name: str) -> bool:
    """Whether a node may have this name."""
    bad = any(unicodedata.category(sign) in _CONTROL or sign in _BIDI for sign in name)
    composed = unicodedata.is_normalized("NFC", name)
    return composed and not bad and name == name.strip() and "#" not in name and 0 < len(name) <= LONGEST_NAME


def checked_name(name: str, where: str) -> str:
    """Return ``name`` in Unicode's composed form (NFC), if it is valid for a node.

    Args:
        where: Place of the name, for the error message.

    Raises:
        UsageError: It is empty or too long, or has a ``#`` or characters that are not shown as they are.
    """
    composed = unicodedata.normalize("NFC", name)
    if not is_name(composed):
        raise UsageError(
            f"{where}: {name[:60]!a} is not a valid name for a node",
            f"Use 1 to {LONGEST_NAME} characters, without '#', control characters or spaces at the ends.",
        )
    return composed
