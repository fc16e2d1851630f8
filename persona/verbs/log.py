"""``persona log``: commits, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.evaluate.results import FigureReading, Headlines
from persona.history import commits
from persona.history import refs as refs_
from persona.history.headline import headline
from persona.history.times import parse_time
from persona.ids import CommitId, RecipeId
from persona.notebook import Shown
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.store.graphs import Graph, split_reference

NamedCommit = tuple[CommitId, commits.Commit]


@dataclass(frozen=True, repr=False)
class LogEntry(Shown):
    """One commit of the log.

    ``recipe`` is the id of its recipe. ``names`` are the branches and tags that point at it. ``run`` holds facts about the
    training run, and ``headline`` the most informative number among them. ``nearest`` are the nearest ancestors that the
    log also shows, which are the parents if no commits are filtered out. ``measured`` has the headline of each suite that
    was evaluated on its build.
    """

    commit: CommitId
    recipe: RecipeId
    subject: str
    author: str
    time: str
    parents: tuple[CommitId, ...]
    names: tuple[str, ...]
    is_head: bool
    run: Mapping[str, Any] = field(default_factory=dict)
    headline: str | None = None
    nearest: tuple[CommitId, ...] = ()
    measured: tuple[FigureReading, ...] = ()


def log(
    repo: Repository,
    rev: str | Sequence[str] = refs_.HEAD,
    *,
    limit: int | None = None,
    everything: bool = False,
    vector: str | None = None,
    node: str | None = None,
    since: str | None = None,
    until: str | None = None,
    in_lines: bool = False,
    measured: bool = True,
) -> list[LogEntry]:
    """Return commits and their ancestors, newest first.

    Args:
        rev: One or more revisions. ``A..B`` means the commits of B that A does not have, ``A...B`` those that only one
            of them has.
        limit: Maximum number of commits.
        everything: Also start at every branch and tag.
        vector: Only commits that changed this vector or readout: its weights, alpha or node.
        node: Only commits that changed this node of the memory graph, or the vectors that implement it.
        since: Only commits from this time on, such as ``2 weeks ago`` or ``2026-11-20``.
        until: Only commits up to this time.
        in_lines: Put every commit after all of its children, as a drawing of the history needs.
        measured: Look up evaluation results, which means reading each commit's recipe.

    Raises:
        UsageError: A revision or time is invalid, or nothing is shown because the vector or node does not exist.
    """
    refs = repo.refs()
    starts, hidden = _range(repo, [rev] if isinstance(rev, str) else rev)
    if everything:
        starts += refs_.tips(refs)
    walked: Iterator[NamedCommit] = (named for named in commits.walk(repo.objects, starts) if named[0] not in hidden)
    if in_lines:
        walked = iter(commits.children_first(list(walked)))
    filters = [*_by_time(since, until), *_by_content(repo, vector, node)]
    seen: dict[CommitId, commits.Commit] = {}
    shown = []
    for name, commit in walked:
        seen[name] = commit
        if all(keeps(commit) for keeps in filters):
            shown.append((name, commit))
            if limit is not None and len(shown) == limit:
                break
    if not shown and (vector is not None or node is not None):
        _check_known(repo, seen, vector, node)
    return _entries(repo, refs, shown, seen, filtered=bool(filters), measured=measured)


def _range(repo: Repository, revs: Sequence[str]) -> tuple[list[CommitId], set[CommitId]]:
    """Return the commits to start from, and those to hide."""
    starts: list[CommitId] = []
    hidden: set[CommitId] = set()
    ancestry = repo.ancestry
    for rev in revs:
        left, dots, right = rev.partition("...") if "..." in rev else rev.partition("..")
        ends = [repo.resolve(part or refs_.HEAD) for part in ((left, right) if dots else (left,))]
        if dots == "...":
            starts += ends
            hidden |= ancestry.of(ancestry.merge_bases([ends[0]], ends[1]))
        else:
            starts.append(ends[-1])
            hidden |= ancestry.of(ends[:1]) if dots else set()
    return starts, hidden


def _by_time(since: str | None, until: str | None) -> Iterator[Callable[[commits.Commit], bool]]:
    now = datetime.now().astimezone()
    if since is not None:
        earliest = parse_time(since, now)
        yield lambda commit: datetime.fromisoformat(commit.time) >= earliest
    if until is not None:
        latest = parse_time(until, now)
        yield lambda commit: datetime.fromisoformat(commit.time) <= latest


def _by_content(repo: Repository, vector: str | None, node: str | None) -> Iterator[Callable[[commits.Commit], bool]]:
    if vector is not None:
        yield _Differs(repo, lambda commit: _vector_in(repo, commit, vector)).keeps
    if node is not None:
        yield _Differs(repo, lambda commit: _node_in(repo, commit, node)).keeps


class _Differs:
    """A filter for commits in which something differs from each of the parents.

    Args:
        look: Returns the thing to compare.
    """

    def __init__(self, repo: Repository, look: Callable[[commits.Commit], object]) -> None:
        self._repo = repo
        self._look = look
        self._known: dict[tuple[str, str | None], object] = {}

    def keeps(self, commit: commits.Commit) -> bool:
        """Return whether to show the commit."""
        here = self._at(commit)
        before = [self._at(self._repo.commit(parent)) for parent in commit.parents] or [None]
        return all(parent != here for parent in before)

    def _at(self, commit: commits.Commit) -> object:
        key = (commit.recipe, commit.graph)
        if key not in self._known:
            self._known[key] = self._look(commit)
        return self._known[key]


def _vector_in(repo: Repository, commit: commits.Commit, name: str) -> object:
    entry = Recipe.entry_in(repo.objects, commit.recipe, name)
    return (entry, entry.specification) if isinstance(entry, Entry) else entry


def _node_in(repo: Repository, commit: commits.Commit, reference: str) -> object:
    """Return the node in the graph, and the vectors that implement it."""
    name = split_reference(reference)[0]
    text = Graph.get(repo.objects, commit.graph).nodes.get(name) if commit.graph else None
    entries = [
        (entry.name, entry.id, entry.node, entry.specification)
        for entry in Recipe.get(repo.objects, commit.recipe).vectors
        if entry.node is not None and (entry.node == reference or split_reference(entry.node)[0] == reference)
    ]
    return (text, entries) if text or entries else None


def _check_known(
    repo: Repository, seen: Mapping[CommitId, commits.Commit], vector: str | None, node: str | None
) -> None:
    """Raise UsageError if the vector or node is in none of the commits."""
    recipes = [Recipe.get(repo.objects, recipe) for recipe in {commit.recipe for commit in seen.values()}]
    entries = [entry for recipe in recipes for entry in recipe.vectors]
    if vector is not None and vector not in (known := {name for recipe in recipes for name in recipe.names}):
        raise UsageError(f"no vector or readout '{vector}' in these commits", did_you_mean(vector, known))
    graphs = [Graph.get(repo.objects, graph) for graph in {commit.graph for commit in seen.values()} if graph]
    nodes = {entry.node for entry in entries if entry.node} | {name for graph in graphs for name in graph.nodes}
    if node is not None and node not in nodes:
        raise UsageError(f"no node '{node}' in these commits", did_you_mean(node, nodes))


def _entries(
    repo: Repository,
    refs: Mapping[str, str],
    shown: Sequence[NamedCommit],
    seen: Mapping[CommitId, commits.Commit],
    *,
    filtered: bool,
    measured: bool,
) -> list[LogEntry]:
    head = refs_.head_commit(refs)
    names: dict[str, list[str]] = {}
    for ref, value in sorted(refs.items()):
        if ref.startswith((refs_.BRANCHES, refs_.TAGS)):
            names.setdefault(value, []).append(ref.removeprefix(refs_.BRANCHES).replace(refs_.TAGS, "tag: "))
    headlines = Headlines(repo) if measured else None
    nearest = _nearest({name for name, _ in shown}, seen) if filtered else None
    return [
        LogEntry(
            commit=name,
            recipe=commit.recipe,
            subject=commit.subject,
            author=commit.author,
            time=commit.time,
            parents=commit.parents,
            names=tuple(names.get(name, ())),
            is_head=name == head,
            run=commit.run,
            headline=headline(commit.run),
            nearest=commit.parents if nearest is None else nearest(commit),
            measured=() if headlines is None else headlines.of(commit.recipe),
        )
        for name, commit in shown
    ]


def _nearest(
    shown: set[CommitId], seen: Mapping[CommitId, commits.Commit]
) -> Callable[[commits.Commit], tuple[CommitId, ...]]:
    """Return a function that finds the nearest shown ancestors of a commit."""

    def below(commit: commits.Commit) -> tuple[CommitId, ...]:
        nearest: dict[CommitId, None] = {}
        stack, passed = list(reversed(commit.parents)), set[CommitId]()
        while stack:
            name = stack.pop()
            if name in passed:
                continue
            passed.add(name)
            if name in shown:
                nearest[name] = None
            elif name in seen:
                stack += reversed(seen[name].parents)
        return tuple(nearest)

    return below
