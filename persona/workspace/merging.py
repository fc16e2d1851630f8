"""An unfinished merge: ``refs/merge/N`` hold what is merged into HEAD, and ``persona.toml`` has its conflicts."""

from __future__ import annotations

from collections.abc import Sequence

from persona.errors import Refusal
from persona.graph.merging import three_way
from persona.graph.nodes import Graph
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.ids import CommitId, GraphId
from persona.repository import Repository, Transaction


def heads_under_way(repo: Repository) -> list[CommitId]:
    """What is being merged; refused if no merge is under way."""
    heads = refs_.merge_heads(repo.refs())
    if not heads:
        raise Refusal("no merge is under way", "Begin one: persona merge REV")
    return heads


def end_merge(repo: Repository, change: Transaction) -> None:
    """Forget the unfinished merge."""
    for name in repo.refs():
        if name.startswith(refs_.MERGES):
            change.set_ref(name, None)


def begin_merge(change: Transaction, heads: Sequence[CommitId]) -> None:
    """Remember what is being merged."""
    for number, head in enumerate(heads, 1):
        change.set_ref(f"{refs_.MERGES}{number}", head)


def merged_graph(
    repo: Repository, head: CommitId, merging: Sequence[CommitId]
) -> tuple[GraphId | None, tuple[str, ...]]:
    """The memory graph of a merge, node by node; and which nodes both sides changed, of which ours stands."""
    graph, heads, conflicts = _graph(repo, head), [head], list[str]()
    for other in merging:
        theirs = _graph(repo, other)
        if graph is not None and theirs is not None:
            bases = repo.ancestry.merge_bases(heads, other)
            merged = three_way(_graph(repo, bases[0]) if bases else None, graph, theirs)
            graph, conflicts = merged.graph, [*conflicts, *merged.conflicts]
        graph, heads = graph or theirs, [*heads, other]
    notes = (f"node {name} was changed on both sides; ours stands: import it again to settle it" for name in conflicts)
    return (graph.put(repo.objects) if graph is not None else None), tuple(notes)


def _graph(repo: Repository, commit: CommitId) -> Graph | None:
    name = repo.commit(commit).graph
    return Graph.get(repo.objects, name) if name else None


def our_name(repo: Repository) -> str:
    """Our side, as conflict markers name it."""
    return refs_.current_branch(repo.refs()) or "HEAD"


def labels_of(repo: Repository, heads: Sequence[CommitId]) -> list[str]:
    """Heads by a branch or tag that stands on them, else by their ids."""
    refs = repo.refs()
    named = {value: refs_.short_name(ref) for ref, value in refs.items() if not ref.startswith(refs_.MERGES)}
    return [named.get(head, head[:7]) for head in heads]


def merge_message(repo: Repository, heads: Sequence[CommitId], labels: Sequence[str] = ()) -> str:
    """What a merge's commit says when nobody says."""
    branch = refs_.current_branch(repo.refs())
    into = f" into {branch}" if branch not in (None, "main") else ""
    return f"merge {', '.join(labels or labels_of(repo, heads))}{into}"


def marked_text(repo: Repository) -> str | None:
    """``persona.toml`` as the unfinished merge left it."""
    for _, operation in repo.log.walk():
        if f"{refs_.MERGES}1" in operation.refs:
            return get_text(repo.objects, operation.recipe[1]) if operation.recipe else None
    return None
