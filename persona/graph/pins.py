"""Pinning: which text of its node each vector of a recipe implements.

A vector keeps its pin while it stays with its node: the pair (vector id, node) decides, under whatever name. Any other
vector with a node, new or retrained or linked anew, implements the text that the graph has now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from persona.graph.nodes import Graph
from persona.ids import NodeId
from persona.recipe.model import Entry, Recipe


def pinned(
    recipe: Recipe, known: tuple[Recipe, ...], graph: Graph | None, chosen: Mapping[str, NodeId] | None = None
) -> Recipe:
    """``recipe`` with every pin that can be known.

    ``known`` are the recipes that it continues: a commit's parents, the first first. ``chosen`` are pins by the name of
    the vector that someone gives by hand.
    """
    kept: dict[tuple[str, str | None], list[NodeId | None]] = {}
    for one in known:
        for entry in one.vectors:
            kept.setdefault((entry.id, entry.node), []).append(entry.specification)
    vectors = (replace(e, specification=(chosen or {}).get(e.name) or _pin(e, kept, graph)) for e in recipe.vectors)
    return replace(recipe, vectors=tuple(vectors))


def _pin(
    entry: Entry, kept: Mapping[tuple[str, str | None], list[NodeId | None]], graph: Graph | None
) -> NodeId | None:
    """Where parents disagree, what the graph has now wins: someone has said that the vector still implements it."""
    now = graph.find(entry.node) if graph and entry.node else None
    if (entry.id, entry.node) not in kept:
        return now
    pins = [pin for pin in kept[(entry.id, entry.node)] if pin]
    return now if now in pins else next(iter(pins), None)


def renewed(before: Recipe, after: Recipe) -> list[Entry]:
    """Vectors with a node that ``before`` did not have with that node."""
    known = {(entry.id, entry.node) for entry in before.vectors}
    return [entry for entry in after.vectors if entry.node and (entry.id, entry.node) not in known]
