"""Where a memory graph is read from: one module for each kind of place; dropping a module in is all it takes.

A source is a module with

    SUMMARY                      one line: what it reads
    accepts(place)               whether it reads this place: a path or a URL, as it was given; it only looks
    read(place, options)         yields ``Found``, one for each node, in any order

It names what is wrong in a ``UsageError`` that says where. What every source needs is done here: names are checked, two
nodes of one name are an error that names both places, sizes are bounded, texts are taken apart (front matter, tags,
links; see ``graph.text``).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from persona.errors import UsageError
from persona.graph.nodes import GraphOrigin, Node, checked_name
from persona.graph.text import links_of, parse, tags_of

MOST_NODES = 200_000
LARGEST_TEXT = 1 << 20
"""Characters of one node."""


@dataclass(frozen=True)
class SourceGraph:
    """One node as a source has it. ``text`` is None where it is none (an image); ``where`` is for errors."""

    name: str
    text: str | None
    where: str
    tags: object = ()
    links: object = ()


@dataclass(frozen=True)
class SourceOptions:
    """What a person may tell a source: the tools that list and read nodes, and seconds of patience with a server."""

    tools: tuple[str, ...] = ()
    patience: float = 30.0


class Source(Protocol):
    """A module of this package."""

    SUMMARY: str

    def accepts(self, place: str) -> bool:
        """Whether this source reads ``place``."""

    def read(self, place: str, options: SourceOptions) -> Iterable[SourceGraph]:
        """The nodes of ``place``."""


@dataclass(frozen=True)
class Read:
    """All nodes of a place."""

    nodes: tuple[Node, ...]
    links: dict[str, tuple[str, ...]]
    origin: GraphOrigin
    notes: tuple[str, ...]


def names() -> tuple[str, ...]:
    """All sources, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Source:
    """One source; an error inside its module is raised as it is."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast("Source", module)


def read(place: str, options: SourceOptions | None = None) -> Read:
    """Read every node of a place, whatever kind of place it is."""
    for name in names():
        source = load(name)
        if source.accepts(place):
            return _collected(source.read(place, options or SourceOptions()), GraphOrigin(name, without_secrets(place)))
    kinds = "; ".join(load(name).SUMMARY for name in names())
    raise UsageError(f"there is no memory graph at {without_secrets(place)}", f"Give one of these: {kinds}.")


def without_secrets(place: str) -> str:
    """A URL without user, password and query, as it may be kept and shown; a path as it is."""
    if not re.match(r"https?://", place):
        return place
    scheme, _, rest = place.partition("://")
    host, slash, path = re.split(r"[?]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _collected(found: Iterable[SourceGraph], origin: GraphOrigin) -> Read:
    nodes: dict[str, Node] = {}
    places: dict[str, str] = {}
    links: dict[str, tuple[str, ...]] = {}
    notes = []
    for one in found:
        if one.text is None:
            notes.append(f"{one.where} is no text: it was left out")
            continue
        node, linked = _node(one, one.text)
        if node.name in nodes:
            raise UsageError(
                f"two nodes are called '{node.name}': {places[node.name]} and {one.where}", "Give one another name."
            )
        nodes[node.name], places[node.name], links[node.name] = node, one.where, linked
        if len(nodes) > MOST_NODES:
            raise UsageError(f"{origin.place} has more than {MOST_NODES:,} nodes", "Import a part of it.")
    if not nodes:
        raise UsageError(f"there are no nodes in {origin.place}", "Nothing was imported; give the place they are in.")
    return Read(tuple(nodes.values()), links, origin, tuple(notes))


def _node(found: SourceGraph, text: str) -> tuple[Node, tuple[str, ...]]:
    if len(text) > LARGEST_TEXT:
        raise UsageError(
            f"{found.where}: a text of {len(text):,} characters",
            f"A node may have {LARGEST_TEXT:,}: divide it, or leave it out.",
        )
    parsed = parse(text)
    name = checked_name(parsed.name or found.name, found.where)
    linked = tuple(dict.fromkeys((*links_of(found.links), *parsed.links)))
    return Node(name, parsed.text, tags_of(found.tags) | dict(parsed.tags)), tuple(to for to in linked if to != name)
