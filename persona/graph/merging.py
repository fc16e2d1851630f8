"""Merging two histories of a graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from persona.graph.nodes import Graph

T = TypeVar("T")


@dataclass(frozen=True)
class MergedGraph:
    """A graph with what both sides did. ``conflicts`` are nodes that both changed, each in its own way: ours stands.

    A node that one side removed and the other changed stays, as a conflict, too.
    """

    graph: Graph
    conflicts: tuple[str, ...]


def three_way(base: Graph | None, ours: Graph, theirs: Graph) -> MergedGraph:
    """What became of ``base`` on both sides; ``base`` is None where they have no beginning in common."""
    nodes, conflicts = _merged(base.nodes if base else {}, ours.nodes, theirs.nodes)
    links, _ = _merged(base.links if base else {}, ours.links, theirs.links)
    kept = {name: to for name, to in links.items() if name in nodes}
    return MergedGraph(Graph(nodes, ours.source, kept), tuple(conflicts))


def _merged(base: Mapping[str, T], ours: Mapping[str, T], theirs: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    found: dict[str, T] = {}
    conflicts = []
    for name in sorted({*ours, *theirs}):
        old, one, other = base.get(name), ours.get(name), theirs.get(name)
        value = other if one == old else one
        if one != other and old not in (one, other):
            conflicts.append(name)
            value = other if one is None else one
        if value is not None:
            found[name] = value
    return found, conflicts
