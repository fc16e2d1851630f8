"""Three-way merge of graphs, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from persona.store.graphs import Graph

T = TypeVar("T")


@dataclass(frozen=True)
class MergedGraph:
    """A merged graph. ``conflicts`` are nodes that both sides changed in different ways; the graph has ours.

    A node that one side removed and the other changed is a conflict too, and is kept.
    """

    graph: Graph
    conflicts: tuple[str, ...]


def three_way(base: Graph | None, ours: Graph, theirs: Graph) -> MergedGraph:
    """Merge two graphs; ``base`` is their common ancestor, or None if they have none."""
    nodes, conflicts = _merged(base.nodes if base else {}, ours.nodes, theirs.nodes)
    links, _ = _merged(base.links if base else {}, ours.links, theirs.links)
    kept = {name: to for name, to in links.items() if name in nodes}
    return MergedGraph(Graph(nodes, ours.source, kept), tuple(conflicts))


def _merged(base: Mapping[str, T], ours: Mapping[str, T], theirs: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    merged: dict[str, T] = {}
    conflicts = []
    for name in sorted({*ours, *theirs}):
        old, our, their = base.get(name), ours.get(name), theirs.get(name)
        value = their if our == old else our
        if our != their and old not in (our, their):
            conflicts.append(name)
            value = their if our is None else our
        if value is not None:
            merged[name] = value
    return merged, conflicts
