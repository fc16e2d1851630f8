"""A merge in progress: ``refs/merge/N`` are the commits to merge into HEAD, and ``persona.toml`` has the conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from persona.errors import Refusal
from persona.graph.merging import three_way
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.ids import CommitId, GraphId
from persona.repository import Repository, Transaction
from persona.store.graphs import Graph


def heads_under_way(repo: Repository) -> list[CommitId]:
    """The commits that are being merged.

    Raises:
        Refusal: no merge is in progress.
    """
    heads = refs_.merge_heads(repo.refs())
    if not heads:
        raise Refusal("no merge is in progress", "Start one: persona merge REV")
    return heads


def end_merge(repo: Repository, change: Transaction) -> None:
    """Remove the refs of the merge in progress."""
    for name in repo.refs():
        if name.startswith(refs_.MERGES):
            change.set_ref(name, None)


def begin_merge(change: Transaction, heads: Sequence[CommitId]) -> None:
    """Record the commits that are being merged."""
    for number, head in enumerate(heads, 1):
        change.set_ref(f"{refs_.MERGES}{number}", head)


def merged_graph(
    repo: Repository, head: CommitId, merging: Sequence[CommitId]
) -> tuple[GraphId | None, tuple[str, ...]]:
    """Merge the memory graphs of ``head`` and ``merging``, node by node.

    Returns:
        The merged graph's id, and a note for every node that both sides changed, where ours is kept.
    """
    graph, heads, conflicts = _graph(repo, head), [head], list[str]()
    for other in merging:
        theirs = _graph(repo, other)
        if graph is not None and theirs is not None:
            bases = repo.ancestry.merge_bases(heads, other)
            merged = three_way(_graph(repo, bases[0]) if bases else None, graph, theirs)
            graph, conflicts = merged.graph, [*conflicts, *merged.conflicts]
        graph, heads = graph or theirs, [*heads, other]
    return (graph.put(repo.objects) if graph is not None else None), _kept_ours(conflicts)


def picked_graph(
    repo: Repository, head: CommitId, before: CommitId, after: CommitId
) -> tuple[GraphId | None, tuple[str, ...]]:
    """Apply the changes of the memory graph between two commits to that of ``head``.

    Returns:
        The graph's id, and a note for every node that both sides changed, where ours is kept.
    """
    ours, theirs = _graph(repo, head), _graph(repo, after)
    if theirs is None or repo.commit(before).graph == repo.commit(after).graph:
        return repo.commit(head).graph, ()
    if ours is None:
        return theirs.put(repo.objects), ()
    merged = three_way(_graph(repo, before), ours, theirs)
    return merged.graph.put(repo.objects), _kept_ours(merged.conflicts)


def _kept_ours(nodes: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"node {name} was changed on both sides; kept ours: import it again to resolve it" for name in nodes)


def _graph(repo: Repository, commit: CommitId) -> Graph | None:
    name = repo.commit(commit).graph
    return Graph.get(repo.objects, name) if name else None


def our_name(repo: Repository) -> str:
    """The name of our side in conflict markers."""
    return refs_.current_branch(repo.refs()) or "HEAD"


def labels_of(repo: Repository, heads: Sequence[CommitId]) -> list[str]:
    """Name each head by a branch or tag that points to it, else by its short id."""
    refs = repo.refs()
    named = {value: refs_.short_name(ref) for ref, value in refs.items() if not ref.startswith(refs_.MERGES)}
    return [named.get(head, head[:7]) for head in heads]


def merge_message(repo: Repository, heads: Sequence[CommitId], labels: Sequence[str] = ()) -> str:
    """The default message of a merge commit."""
    branch = refs_.current_branch(repo.refs())
    into = f" into {branch}" if branch not in (None, "main") else ""
    return f"merge {', '.join(labels or labels_of(repo, heads))}{into}"


def marked_text(repo: Repository) -> str | None:
    """``persona.toml`` as the merge in progress wrote it."""
    for _, operation in repo.log.walk():
        if f"{refs_.MERGES}1" in operation.refs:
            return get_text(repo.objects, operation.recipe[1]) if operation.recipe else None
    return None
