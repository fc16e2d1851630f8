"""Pins: which text of its node each vector of a recipe implements.

A vector keeps its pin as long as it keeps its node: what counts is the pair (vector id, node), not the vector's name.
Any other vector with a node, whether new, retrained or newly linked, is pinned to the current text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from persona.ids import NodeId
from persona.recipe.model import Entry, Recipe
from persona.store.graphs import Graph


def pinned(
    recipe: Recipe, known: tuple[Recipe, ...], graph: Graph | None, chosen: Mapping[str, NodeId] | None = None
) -> Recipe:
    """Return ``recipe`` with the pins of its vectors set.

    Args:
        known: Recipes of the commit's parents, first parent first, whose pins are kept.
        graph: The current graph, or None if there is none.
        chosen: Pins set by hand, by the name of the vector.
    """
    kept: dict[tuple[str, str | None], list[NodeId | None]] = {}
    for parent in known:
        for entry in parent.vectors:
            kept.setdefault((entry.id, entry.node), []).append(entry.specification)
    vectors = (replace(e, specification=(chosen or {}).get(e.name) or _pin(e, kept, graph)) for e in recipe.vectors)
    return replace(recipe, vectors=tuple(vectors))


def _pin(
    entry: Entry, kept: Mapping[tuple[str, str | None], list[NodeId | None]], graph: Graph | None
) -> NodeId | None:
    """Return a vector's pin. If parents differ, the current text wins: someone linked the vector to it again."""
    now = graph.find(entry.node) if graph and entry.node else None
    if (entry.id, entry.node) not in kept:
        return now
    pins = [pin for pin in kept[(entry.id, entry.node)] if pin]
    return now if now in pins else next(iter(pins), None)


def renewed(before: Recipe, after: Recipe) -> list[Entry]:
    """Return the vectors of ``after`` with a node that ``before`` does not have with that node."""
    known = {(entry.id, entry.node) for entry in before.vectors}
    return [entry for entry in after.vectors if entry.node and (entry.id, entry.node) not in known]
