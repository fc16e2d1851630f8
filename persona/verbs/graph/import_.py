"""``persona graph import``: import a memory graph and commit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona.errors import UsageError
from persona.graph import sources
from persona.graph.coverage import coverage
from persona.graph.differences import NodeChange, changed_nodes, summary
from persona.ids import NodeId
from persona.repository import Repository
from persona.store.graphs import Graph
from persona.workspace.graphs import graph_of
from persona.workspace.record import RecordedCommit, check_clean, clean_recipe, record


@dataclass(frozen=True)
class GraphImportResult:
    """The result of an import.

    ``recorded`` is the new commit, null if the graph did not change. ``source`` is the kind of source, ``place`` where it
    is, and ``nodes`` the number of nodes. ``kept`` are nodes that the source no longer has and that were kept. ``stale``
    are vectors that do not match the new graph. ``notes`` say what was skipped.
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
    """Import every node of a memory graph, and commit the result.

    Args:
        place: A folder of Markdown or text files, a JSONL file, or the URL of an MCP server.
        keep_missing: Keep nodes that the place no longer has.
        tools: Names of the server's tool that lists nodes and of the one that reads a node; known names by default.
        patience: Seconds to wait for each answer of the server.

    Raises:
        UsageError: The place is not a memory graph, or a node is invalid.
        ServerError: The server cannot be reached, or its answer is unusable.
        Refusal: ``persona.toml`` has edits.
    """
    if len(tools) > 2 or not 0 < patience < 1e6:
        raise UsageError(
            "give at most two tools and a positive timeout",
            "First name the tool that lists nodes, then the one that reads a node.",
        )
    check_clean(repo)  # fail before a server is asked for everything
    read = sources.read(str(place), sources.SourceOptions(tuple(tools), patience))
    with clean_recipe(repo, command) as (change, text):
        before = graph_of(repo, repo.head())
        kept = _missing(before, read) if keep_missing else {}
        after = _graph(repo, read, kept, before)
        changes = changed_nodes(before, after, repo.objects)
        recorded = None
        if before is None or (before.nodes, before.links) != (after.nodes, after.links):
            subject = message or f"graph: {summary(before, after, changes)}"
            recorded = record(repo, change, text, subject, author, graph=after.put(repo.objects))
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
