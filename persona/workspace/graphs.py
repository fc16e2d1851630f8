"""What the graph verbs share: the graph and the recipe of a revision, and how the one covers the other."""

from __future__ import annotations

from dataclasses import replace

from persona.errors import PersonaError, UsageError, did_you_mean
from persona.graph.coverage import Coverage, coverage
from persona.graph.nodes import Graph, GraphOrigin, Node, split_reference
from persona.graph.pins import pinned
from persona.ids import CommitId
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.record import worktree_recipe

NO_GRAPH = Graph({}, GraphOrigin("", ""))


def graph_of(repo: Repository, commit: CommitId) -> Graph | None:
    """The memory graph of a commit; None before the first import."""
    name = repo.commit(commit).graph
    return Graph.get(repo.objects, name) if name else None


def needed_graph(repo: Repository, commit: CommitId) -> Graph:
    """The memory graph of a commit, or an error that says how to get one."""
    graph = graph_of(repo, commit)
    if graph is None:
        raise UsageError(f"commit {commit.short} has no memory graph", "Import one: persona graph import PATH")
    return graph


def recipe_at(repo: Repository, rev: str | None) -> tuple[CommitId, Recipe]:
    """A revision and its recipe; of HEAD as ``persona.toml`` stands, if it can be used, with the pins it would get."""
    commit = repo.head() if rev is None else repo.resolve(rev)
    committed = repo.recipe(commit)
    if rev is not None:
        return commit, committed
    try:
        standing = worktree_recipe(repo)
    except PersonaError:
        return commit, committed
    return commit, pinned(standing, (committed,), graph_of(repo, commit))


def covered(repo: Repository, commit: CommitId, recipe: Recipe) -> Coverage:
    """How a recipe stands to the graph of a commit; without one, every node that a vector names is gone."""
    return coverage(recipe, graph_of(repo, commit) or NO_GRAPH, repo.objects)


def stale_vectors(repo: Repository, commit: CommitId, recipe: Recipe) -> tuple[str, ...]:
    """Vectors that do not implement what the graph of ``commit`` says; none before the first import."""
    graph = graph_of(repo, commit)
    if graph is None:
        return ()
    return coverage(replace(recipe, vectors=tuple(e for e in recipe.vectors if e.node)), graph, repo.objects).stale


def node_of(repo: Repository, graph: Graph, reference: str) -> Node:
    """The node that ``NODE`` or ``NODE#SECTION`` names, or an error with a suggestion."""
    name = graph.find(reference)
    if name is None:
        wanted = split_reference(reference)[0]
        raise UsageError(f"no node '{wanted}' in the graph", did_you_mean(wanted, graph.nodes))
    return Node.get(repo.objects, name)
