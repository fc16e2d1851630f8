"""``persona graph diff``: how nodes changed, and which vectors that makes stale."""

from __future__ import annotations

from dataclasses import dataclass

from persona.graph.coverage import State, text_at
from persona.graph.differences import changed_nodes, patch
from persona.ids import CommitId, NodeId
from persona.repository import Repository
from persona.store.graphs import Node
from persona.workspace.graphs import covered, graph_of, needed_graph, recipe_at


@dataclass(frozen=True)
class NodeDiff:
    """A node that changed.

    ``kind`` is ``added``, ``removed``, ``changed``, or ``scored`` if only its tags differ. ``patch`` is a unified diff of
    its text. ``stale`` are the vectors that do not match the new text.
    """

    kind: str
    name: str
    patch: tuple[str, ...]
    stale: tuple[str, ...]


@dataclass(frozen=True)
class GraphDiff:
    """The differences from ``before`` to ``after``, which describe the two sides."""

    before: str
    after: str
    nodes: tuple[NodeDiff, ...]


def graph_diff(repo: Repository, before: str | None = None, after: str | None = None) -> GraphDiff:
    """Compare the graphs of two revisions.

    Args:
        before: A revision; for None, compare the text that each stale vector implements with its node's current text.
        after: A revision; HEAD by default.

    Raises:
        UsageError: There is no such revision, or no graph in ``after``.
    """
    if before is None:
        return _stale(repo)
    old, new = (repo.resolve(rev) for rev in (before, after or "HEAD"))
    graph = needed_graph(repo, new)
    stale = _stale_by_node(repo, new)
    nodes = [
        NodeDiff(node.kind, node.name, _patch(repo, node.before, node.after), stale.get(node.name, ()))
        for node in changed_nodes(graph_of(repo, old), graph, repo.objects)
    ]
    return GraphDiff(f"{before} ({old.short})", f"{after or 'HEAD'} ({new.short})", tuple(nodes))


def _stale_by_node(repo: Repository, commit: CommitId) -> dict[str, tuple[str, ...]]:
    vectors: dict[str, tuple[str, ...]] = {}
    for link in covered(repo, commit, repo.recipe(commit)).links:
        if link.state not in (State.CURRENT, State.UNPINNED):
            vectors[link.node] = (*vectors.get(link.node, ()), link.vector)
    return vectors


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
        old = text_at(repo.objects, link.pin, link.reference)
        new = text_at(repo.objects, now, link.reference) if now else None
        known = nodes.get((link.reference, link.pin))
        vectors = (*(known.stale if known else ()), link.vector)
        kind = "changed" if new is not None else "removed"
        lines = tuple(patch(old or "", new or ""))
        nodes[(link.reference, link.pin)] = NodeDiff(kind, link.reference, lines, vectors)
    return GraphDiff("what stale vectors implement", "the current text of their nodes", tuple(nodes.values()))
