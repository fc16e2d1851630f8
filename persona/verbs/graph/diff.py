"""``persona graph diff``: what nodes said and say, and which vectors that makes stale."""

from __future__ import annotations

from dataclasses import dataclass

from persona.graph.coverage import State, said
from persona.graph.differences import changed_nodes, patch
from persona.graph.nodes import Node
from persona.ids import CommitId, NodeId
from persona.repository import Repository
from persona.workspace.graphs import covered, graph_of, needed_graph, recipe_at


@dataclass(frozen=True)
class NodeDiff:
    """One node: ``added``, ``removed``, ``changed`` or ``scored``; ``patch`` is a unified diff of its texts.

    ``stale`` are vectors that do not implement what stands behind the change.
    """

    kind: str
    name: str
    patch: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class GraphDiff:
    """Differences from ``before`` to ``after``, both named as a person would."""

    before: str
    after: str
    nodes: tuple[NodeDiff, ...]


def graph_diff(repo: Repository, before: str | None = None, after: str | None = None) -> GraphDiff:
    """Between the graphs of two revisions; ``after`` is HEAD unless given.

    Without any: between what each stale vector implements, and what its node says now.
    """
    if before is None:
        return _stale(repo)
    old, new = (repo.resolve(rev) for rev in (before, after or "HEAD"))
    graph = needed_graph(repo, new)
    stale = _stale_by_node(repo, new)
    nodes = [
        NodeDiff(one.kind, one.name, _patch(repo, one.before, one.after), stale.get(one.name, ()))
        for one in changed_nodes(graph_of(repo, old), graph, repo.objects)
    ]
    return GraphDiff(f"{before} ({old.short})", f"{after or 'HEAD'} ({new.short})", tuple(nodes))


def _stale_by_node(repo: Repository, commit: CommitId) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for link in covered(repo, commit, repo.recipe(commit)).links:
        if link.state not in (State.CURRENT, State.UNPINNED):
            found[link.node] = (*found.get(link.node, ()), link.vector)
    return found


def _patch(repo: Repository, before: NodeId | None, after: NodeId | None) -> tuple[str, ...]:
    old, new = ("" if name is None else Node.get(repo.objects, name).text for name in (before, after))
    return tuple(patch(old, new))


def _stale(repo: Repository) -> GraphDiff:
    commit, recipe = recipe_at(repo, None)
    graph = needed_graph(repo, commit)
    nodes: dict[tuple[str, NodeId], NodeDiff] = {}
    for link in covered(repo, commit, recipe).links:
        if link.pin is None or link.state not in (State.STALE, State.NO_SECTION, State.MISSING):
            continue
        now = graph.find(link.reference)
        old, new = (
            said(repo.objects, link.pin, link.reference),
            said(repo.objects, now, link.reference) if now else None,
        )
        known = nodes.get((link.reference, link.pin))
        vectors = (*(known.stale if known else ()), link.vector)
        kind = "changed" if new is not None else "removed"
        lines = tuple(patch(old or "", new or ""))
        nodes[(link.reference, link.pin)] = NodeDiff(kind, link.reference, lines, vectors)
    return GraphDiff("what stale vectors implement", "what their nodes say now", tuple(nodes.values()))
