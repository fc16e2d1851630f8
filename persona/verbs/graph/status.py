"""``persona graph status``: which nodes have a vector, which vectors are stale, and what has nothing to do with the other."""

from __future__ import annotations

from dataclasses import dataclass

from persona.graph.coverage import Coverage, NodeLink, State
from persona.graph.nodes import GraphOrigin
from persona.ids import CommitId
from persona.repository import Repository
from persona.workspace.graphs import covered, graph_of, recipe_at


@dataclass(frozen=True)
class GraphStatus:
    """A recipe held to the graph of a commit. ``source`` is None before the first import.

    ``links`` are vectors with a node, the worst first; ``uncovered`` nodes without a vector, ``loose`` vectors without a
    node; ``next`` is the likely next command.
    """

    commit: CommitId
    source: GraphOrigin | None
    nodes: int
    links: tuple[NodeLink, ...]
    uncovered: tuple[str, ...]
    loose: tuple[str, ...]
    stale: tuple[str, ...]
    next: str


def graph_status(repo: Repository, rev: str | None = None) -> GraphStatus:
    """The state of the graph at a revision, or now."""
    commit, recipe = recipe_at(repo, rev)
    graph = graph_of(repo, commit)
    found = covered(repo, commit, recipe)
    return GraphStatus(
        commit=commit,
        source=graph.source if graph else None,
        nodes=len(graph.nodes) if graph else 0,
        links=found.links,
        uncovered=found.uncovered,
        loose=found.loose,
        stale=found.stale if graph else (),
        next="persona graph import PATH" if graph is None else _next(found),
    )


def _next(found: Coverage) -> str:
    """The likely next command: the worst is mended first."""
    for link in found.links:
        if link.state is State.STALE:
            return f"persona commit RUN --as {link.vector}"
        if link.state in (State.MISSING, State.NO_SECTION):
            return f"persona graph link NODE {link.vector}"
        if link.state is State.UNPINNED:
            return f"persona graph link {link.reference} {link.vector}"
    if found.loose:
        return f"persona graph link NODE {found.loose[0]}"
    if found.uncovered:
        return f"persona commit RUN --as NAME --node {found.uncovered[0]}"
    return "persona build -o OUT"
