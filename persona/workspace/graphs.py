"""What the graph verbs share: the graph and recipe of a revision, and the coverage of one by the other."""

from __future__ import annotations

from dataclasses import replace

from persona.errors import PersonaError, UsageError, did_you_mean
from persona.graph.coverage import Coverage, coverage
from persona.graph.pins import pinned
from persona.ids import CommitId
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.store.graphs import Graph, GraphOrigin, Node, split_reference
from persona.workspace.record import worktree_recipe

NO_GRAPH = Graph({}, GraphOrigin("", ""))


def graph_of(repo: Repository, commit: CommitId) -> Graph | None:
    """The memory graph of a commit; None before the first import."""
    name = repo.commit(commit).graph
    return Graph.get(repo.objects, name) if name else None


def needed_graph(repo: Repository, commit: CommitId) -> Graph:
    """The memory graph of a commit.

    Raises:
        UsageError: it has none.
    """
    graph = graph_of(repo, commit)
    if graph is None:
        raise UsageError(f"commit {commit.short} has no memory graph", "Import one: persona graph import PATH")
    return graph


def recipe_at(repo: Repository, rev: str | None) -> tuple[CommitId, Recipe]:
    """Find a commit and its recipe.

    Without ``rev``, that is HEAD and the current ``persona.toml``, pinned as a commit would pin it; if the file has
    errors, HEAD's own recipe.
    """
    commit = repo.head() if rev is None else repo.resolve(rev)
    committed = repo.recipe(commit)
    if rev is not None:
        return commit, committed
    try:
        current = worktree_recipe(repo)
    except PersonaError:
        return commit, committed
    return commit, pinned(current, (committed,), graph_of(repo, commit))


def covered(repo: Repository, commit: CommitId, recipe: Recipe) -> Coverage:
    """Compare a recipe with the graph of a commit. Without a graph, every node that a vector names is missing."""
    return coverage(recipe, graph_of(repo, commit) or NO_GRAPH, repo.objects)


def stale_vectors(repo: Repository, commit: CommitId, recipe: Recipe) -> tuple[str, ...]:
    """Names of vectors that implement outdated text of the graph of ``commit``; none if it has no graph."""
    graph = graph_of(repo, commit)
    if graph is None:
        return ()
    return coverage(replace(recipe, vectors=tuple(e for e in recipe.vectors if e.node)), graph, repo.objects).stale


def node_of(repo: Repository, graph: Graph, reference: str) -> Node:
    """Find the node that ``NODE`` or ``NODE#SECTION`` names.

    Raises:
        UsageError: there is none; the hint suggests a similar one.
    """
    name = graph.find(reference)
    if name is None:
        node = split_reference(reference)[0]
        raise UsageError(f"no node '{node}' in the graph", did_you_mean(node, graph.nodes))
    return Node.get(repo.objects, name)
