"""Sources of memory graphs: one module per kind of place. A module in this package is all that it takes.

A source is a module with

    SUMMARY                      what it reads, in one line
    accepts(place)               whether it reads this place: a path or a URL; must not change anything
    read(place, options)         yields a ``SourceGraph`` for each node, in any order

It raises a ``UsageError`` that says where the mistake is. What all sources need is done here: names are checked,
duplicate names are reported with both places, sizes are limited, and texts are parsed (front matter, tags, links; see
``graph.text``).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from persona.errors import UsageError
from persona.graph.text import links_of, parse, tags_of
from persona.store.graphs import GraphOrigin, Node, checked_name

MOST_NODES = 200_000
LARGEST_TEXT = 1 << 20
"""Maximum number of characters of a node."""


@dataclass(frozen=True)
class SourceGraph:
    """One node of a source. ``text`` is None if it is not text, such as an image; ``where`` is for error messages."""

    name: str
    text: str | None
    where: str
    tags: object = ()
    links: object = ()


@dataclass(frozen=True)
class SourceOptions:
    """Options for MCP servers: the tools that list and read nodes, and the seconds to wait for each answer."""

    tools: tuple[str, ...] = ()
    patience: float = 30.0


class Source(Protocol):
    """A module of this package."""

    SUMMARY: str

    def accepts(self, place: str) -> bool:
        """Return whether this source reads ``place``."""

    def read(self, place: str, options: SourceOptions) -> Iterable[SourceGraph]:
        """Yield the nodes of ``place``."""


@dataclass(frozen=True)
class Read:
    """All nodes of a place, their links, and notes about what was skipped."""

    nodes: tuple[Node, ...]
    links: dict[str, tuple[str, ...]]
    origin: GraphOrigin
    notes: tuple[str, ...]


def names() -> tuple[str, ...]:
    """Return the names of all sources, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Source:
    """Import a source."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast("Source", module)


def read(place: str, options: SourceOptions | None = None) -> Read:
    """Read every node of a place with the source that accepts it.

    Raises:
        UsageError: No source accepts the place, or a node is invalid.
        ServerError: A server cannot be reached, or its answer is unusable.
    """
    for name in names():
        source = load(name)
        if source.accepts(place):
            return _collected(source.read(place, options or SourceOptions()), GraphOrigin(name, without_secrets(place)))
    kinds = "; ".join(load(name).SUMMARY for name in names())
    raise UsageError(f"no memory graph found at {without_secrets(place)}", f"Give one of these: {kinds}.")


def without_secrets(place: str) -> str:
    """Strip user, password and query from a URL, so that it can be stored and shown; return a path unchanged."""
    if not re.match(r"https?://", place):
        return place
    scheme, _, rest = place.partition("://")
    host, slash, path = re.split(r"[?]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _collected(entries: Iterable[SourceGraph], origin: GraphOrigin) -> Read:
    nodes: dict[str, Node] = {}
    places: dict[str, str] = {}
    links: dict[str, tuple[str, ...]] = {}
    notes = []
    for entry in entries:
        if entry.text is None:
            notes.append(f"skipped {entry.where}: it is not text")
            continue
        node, linked = _node(entry, entry.text)
        if node.name in nodes:
            raise UsageError(
                f"two nodes are named '{node.name}': {places[node.name]} and {entry.where}", "Rename one of them."
            )
        nodes[node.name], places[node.name], links[node.name] = node, entry.where, linked
        if len(nodes) > MOST_NODES:
            raise UsageError(f"{origin.place} has more than {MOST_NODES:,} nodes", "Import only part of it.")
    if not nodes:
        raise UsageError(f"there are no nodes in {origin.place}", "Nothing was imported; check the path or address.")
    return Read(tuple(nodes.values()), links, origin, tuple(notes))


def _node(entry: SourceGraph, text: str) -> tuple[Node, tuple[str, ...]]:
    if len(text) > LARGEST_TEXT:
        raise UsageError(
            f"{entry.where}: the text is too long for a node: {len(text):,} characters",
            f"The limit is {LARGEST_TEXT:,}: split the node, or leave it out.",
        )
    parsed = parse(text)
    name = checked_name(parsed.name or entry.name, entry.where)
    linked = tuple(dict.fromkeys((*links_of(entry.links), *parsed.links)))
    return Node(name, parsed.text, tags_of(entry.tags) | dict(parsed.tags)), tuple(to for to in linked if to != name)
