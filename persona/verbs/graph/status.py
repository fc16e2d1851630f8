"""``persona graph status``: which nodes have a vector, and which vectors are stale."""

from __future__ import annotations

from dataclasses import dataclass

from persona.graph.coverage import Coverage, NodeLink, State
from persona.ids import CommitId
from persona.repository import Repository
from persona.store.graphs import GraphOrigin
from persona.workspace.graphs import covered, graph_of, recipe_at


@dataclass(frozen=True)
class GraphStatus:
    """A recipe compared with the graph of a commit.

    ``source`` is where the graph was imported from, null before the first import, and ``nodes`` the number of nodes.
    ``links`` are the vectors with a node, worst state first; ``uncovered`` the nodes without a vector, ``loose`` the
    vectors without a node, and ``stale`` the vectors that no longer match their node. ``next`` is the likely next
    command.
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
    """Compare the recipe with the graph at a revision; for None, the current ``persona.toml`` with HEAD's graph."""
    commit, recipe = recipe_at(repo, rev)
    graph = graph_of(repo, commit)
    coverage = covered(repo, commit, recipe)
    return GraphStatus(
        commit=commit,
        source=graph.source if graph else None,
        nodes=len(graph.nodes) if graph else 0,
        links=coverage.links,
        uncovered=coverage.uncovered,
        loose=coverage.loose,
        stale=coverage.stale if graph else (),
        next="persona graph import PATH" if graph is None else _next(coverage),
    )


def _next(coverage: Coverage) -> str:
    """Return the likely next command, which fixes the worst state first."""
    for link in coverage.links:
        if link.state is State.STALE:
            return f"persona commit RUN --as {link.vector}"
        if link.state in (State.MISSING, State.NO_SECTION):
            return f"persona graph link NODE {link.vector}"
        if link.state is State.UNPINNED:
            return f"persona graph link {link.reference} {link.vector}"
    if coverage.loose:
        return f"persona graph link NODE {coverage.loose[0]}"
    if coverage.uncovered:
        return f"persona commit RUN --as NAME --node {coverage.uncovered[0]}"
    return "persona build -o OUT"
