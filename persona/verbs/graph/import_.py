"""``persona graph import``: the memory graph as it is now, as a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.graph import sources
from persona.graph.coverage import coverage
from persona.graph.differences import NodeChange, changed_nodes, summary
from persona.graph.nodes import Graph
from persona.ids import NodeId
from persona.repository import Repository, Transaction
from persona.workspace.graphs import graph_of
from persona.workspace.record import RecordedCommit, check_clean, clean_recipe, record


@dataclass(frozen=True)
class GraphImportResult:
    """What an import brought. ``recorded`` is None when the very same graph was there already.

    ``kept`` are nodes that the source no longer has and that stay all the same; ``stale`` are vectors that do not
    implement what the graph says now.
    """

    recorded: RecordedCommit | None
    source: str
    place: str
    nodes: int
    changes: tuple[NodeChange, ...]
    kept: tuple[str, ...]
    stale: tuple[str, ...]
    notes: tuple[str, ...]


def graph_import(
    repo: Repository,
    place: Path | str,
    *,
    keep_missing: bool = False,
    tools: Sequence[str] = (),
    patience: float = 30.0,
    message: str | None = None,
    author: str = "",
    command: str = "graph import",
) -> GraphImportResult:
    """Take in every node of a folder, a JSONL file or an MCP server, and commit that.

    Nodes that the place no longer has leave the graph, unless ``keep_missing``. ``tools`` name the server's tools that
    list and read nodes; ``patience`` is how many seconds it may take to answer.
    """
    if len(tools) > 2 or not 0 < patience < 1e6:
        raise UsageError(
            "at most two tools, and a positive patience", "Name the tool that lists, then the one that reads."
        )
    check_clean(repo)  # before a server is asked for everything
    read = sources.read(str(place), sources.SourceOptions(tuple(tools), patience))
    with clean_recipe(repo, command) as (change, text):
        before = graph_of(repo, repo.head())
        kept = _missing(before, read) if keep_missing else {}
        after = _graph(repo, read, kept, before)
        changes = changed_nodes(before, after, repo.objects)
        recorded = None
        if before is None or (before.nodes, before.links) != (after.nodes, after.links):
            said = message or f"graph: {summary(before, after, changes)}"
            recorded = _record(repo, change, text, said, author, after)
        stale = coverage(repo.recipe(repo.head()), after, repo.objects).stale
    where = (read.origin.kind, read.origin.place)
    return GraphImportResult(recorded, *where, len(after.nodes), tuple(changes), tuple(sorted(kept)), stale, read.notes)


def _missing(before: Graph | None, read: sources.Read) -> dict[str, NodeId]:
    here = {node.name for node in read.nodes}
    return {name: node for name, node in before.nodes.items() if name not in here} if before else {}


def _graph(repo: Repository, read: sources.Read, kept: dict[str, NodeId], before: Graph | None) -> Graph:
    links = {name: to for name, to in read.links.items() if to}
    links |= {name: before.links[name] for name in kept if before and name in before.links}
    return Graph({node.name: node.put(repo.objects) for node in read.nodes} | kept, read.origin, links)


def _record(
    repo: Repository, change: Transaction, text: str, message: str, author: str, graph: Graph
) -> RecordedCommit:
    return record(repo, change, text, message, author, graph=graph.put(repo.objects))
