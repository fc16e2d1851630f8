"""``persona graph show``: the nodes of a graph, or one of them."""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import UsageError
from persona.graph.coverage import NodeLink, complaint, text_at
from persona.ids import CommitId, NodeId
from persona.repository import Repository
from persona.store.graphs import Graph, GraphOrigin, Tags
from persona.workspace.graphs import covered, needed_graph, node_of, recipe_at


@dataclass(frozen=True)
class NodeSummary:
    """A node of the graph, the nodes that it links to, and the vectors that implement it."""

    name: str
    id: NodeId
    links: tuple[str, ...]
    vectors: tuple[str, ...]


@dataclass(frozen=True)
class ShownGraph:
    """The graph of a commit, and where it was imported from."""

    commit: CommitId
    source: GraphOrigin
    nodes: tuple[NodeSummary, ...]


@dataclass(frozen=True)
class ShownNode:
    """One node, or a section of it. ``links`` are the nodes that it links to, ``linked_from`` those that link to it."""

    commit: CommitId
    name: str
    id: NodeId
    text: str
    tags: Tags
    links: tuple[str, ...]
    linked_from: tuple[str, ...]
    vectors: tuple[NodeLink, ...]


def graph_show(repo: Repository, node: str | None = None, rev: str | None = None) -> ShownGraph | ShownNode:
    """Return the graph of a revision, or one node of it.

    Args:
        node: ``NODE`` or ``NODE#SECTION``; the whole graph for None.
        rev: A revision; for None, HEAD with the current ``persona.toml``.

    Raises:
        UsageError: There is no graph, or no such node or section.
    """
    commit, recipe = recipe_at(repo, rev)
    graph = needed_graph(repo, commit)
    links = covered(repo, commit, recipe).links
    if node is not None:
        return _node(repo, commit, graph, node, links)
    by_node: dict[str, list[str]] = {}
    for link in links:
        by_node.setdefault(link.node, []).append(link.vector)
    nodes = [
        NodeSummary(name, value, graph.links.get(name, ()), tuple(by_node.get(name, ())))
        for name, value in sorted(graph.nodes.items())
    ]
    return ShownGraph(commit, graph.source, tuple(nodes))


def _node(repo: Repository, commit: CommitId, graph: Graph, reference: str, links: tuple[NodeLink, ...]) -> ShownNode:
    node = node_of(repo, graph, reference)
    if wrong := complaint(reference, graph, repo.objects):
        raise UsageError(*wrong)
    name = graph.nodes[node.name]
    return ShownNode(
        commit=commit,
        name=reference,
        id=name,
        text=text_at(repo.objects, name, reference) or "",
        tags=node.tags,
        links=graph.links.get(node.name, ()),
        linked_from=tuple(sorted(other for other, to in graph.links.items() if node.name in to)),
        vectors=tuple(link for link in links if link.node == node.name),
    )
