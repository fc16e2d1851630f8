"""``persona cherry-pick``: take one commit's changes, or one vector, from elsewhere.

This is a three-way merge: ours is HEAD. For a commit, the base is its parent, and theirs the commit. For a vector or
readout, both are HEAD's recipe with the vector as it was where the histories parted, and as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.ids import CommitId, GraphId, ReadoutId, VectorId
from persona.recipe.markers import mark
from persona.recipe.model import Recipe
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import MergeConflict, merge
from persona.repository import Repository
from persona.workspace.merging import our_name, picked_graph
from persona.workspace.origin import first_commit
from persona.workspace.record import RecordedCommit, clean_recipe, record


@dataclass(frozen=True)
class CherryPickResult:
    """What was picked: a commit, or the vector or readout ``name`` of it.

    ``recorded`` is the new commit, null while the conflicts in ``clashes`` are not resolved.
    """

    commit: CommitId
    subject: str
    name: str | None
    recorded: RecordedCommit | None
    clashes: tuple[MergeConflict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no conflicts."""
        return not self.clashes


@dataclass(frozen=True)
class _Pick:
    """What to apply to HEAD: the difference between two recipes, and how to record it."""

    commit: CommitId
    name: str | None
    before: Recipe
    after: Recipe
    message: str
    author: str
    graph: GraphId | None
    run: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def cherry_pick(
    repo: Repository,
    what: str,
    *,
    mainline: int | None = None,
    message: str | None = None,
    author: str = "",
    command: str = "cherry-pick",
) -> CherryPickResult:
    """Apply the changes of a commit, or take a vector or readout from a revision, in a new commit.

    Args:
        what: A revision, or ``NAME@REV``.
        mainline: For a merge, the number of the parent that its changes are compared with, from 1.
        author: Author of the commit for a vector; the changes of a commit keep theirs.

    Raises:
        UsageError: There is no such revision or vector, it belongs to another base, or a merge needs ``mainline``.
        Refusal: Nothing would change, the commit is the first one, or ``persona.toml`` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        pick = _entry(repo, what, author) or _changes(repo, what, mainline)
        subject, label = repo.commit(pick.commit).subject, pick.commit[:7]
        their_text = repo.text(pick.commit)
        merged = merge([pick.before], repo.recipe(repo.head()), pick.after)
        text = rewrite(text, merged.recipe, their_text)
        if merged.clashes:
            change.set_recipe_text(mark(text, merged.clashes, our_name(repo), label, their_text, pick.after))
            return CherryPickResult(pick.commit, subject, pick.name, None, merged.clashes)
        if text == repo.head_text() and pick.graph == repo.commit(repo.head()).graph:
            raise Refusal(f"{our_name(repo)} has all of {what} already", "See 'persona log'.")
        recorded = record(repo, change, text, message or pick.message, pick.author, pick.run, graph=pick.graph)
        recorded = replace(recorded, notes=(*recorded.notes, *pick.notes))
        return CherryPickResult(pick.commit, subject, pick.name, recorded)


def _changes(repo: Repository, rev: str, mainline: int | None) -> _Pick:
    """The changes of a commit."""
    try:
        name = repo.resolve(rev)
    except UsageError:
        if rev not in repo.recipe(repo.head()).names:
            raise
        raise UsageError(
            f"'{rev}' is a name in the recipe, not a revision", f"Say from where: persona cherry-pick {rev}@REV"
        ) from None
    commit = repo.commit(name)
    parents = commit.parents
    if not parents:
        raise Refusal(f"{name[:7]} is the first commit and has no changes", "See 'persona log'.")
    if len(parents) > 1 and mainline is None:
        raise UsageError(
            f"{rev} is a merge with {len(parents)} parents",
            f"Merge it, or give the parent: persona cherry-pick {rev} -m 1",
        )
    if not 1 <= (mainline or 1) <= len(parents):
        raise UsageError(f"{rev} has no parent {mainline}", f"It has {len(parents)}.")
    parent = parents[(mainline or 1) - 1]
    graph, notes = picked_graph(repo, repo.head(), parent, name)
    message = f"{commit.message.rstrip()}\n\n(cherry picked from commit {name.short})"
    before, after = repo.recipe(parent), repo.recipe(name)
    return _Pick(name, None, before, after, message, commit.author, graph, commit.run, notes)


def _entry(repo: Repository, what: str, author: str) -> _Pick | None:
    """A vector or readout, ``NAME@REV``; None if it is a revision."""
    name, at, rev = what.partition("@")
    ours = repo.recipe(repo.head())
    if not at or not name or rev.startswith("{"):
        return None
    commit = repo.resolve(rev or refs_.HEAD)
    theirs = repo.recipe(commit)
    found = theirs.names.get(name)
    if found is None:
        raise UsageError(f"no vector or readout '{name}' in '{rev}'", f"See 'persona vectors {rev}'.")
    bases = repo.ancestry.merge_bases([repo.head()], commit)
    before = repo.recipe(bases[0]) if bases else replace(theirs, vectors=(), readouts=())
    known: VectorId | ReadoutId = VectorId(found) if theirs.entry(name) else ReadoutId(found)
    origin = first_commit(repo, known, commit)
    return _Pick(
        commit,
        name,
        _with(ours, before, name),
        replace(_with(ours, theirs, name), base=theirs.base, base_name=ours.base_name),
        f"take {name} from {rev or refs_.HEAD}",
        author,
        repo.commit(repo.head()).graph,
        repo.commit(origin).run if origin is not None else {},
    )


def _with(ours: Recipe, other: Recipe, name: str) -> Recipe:
    """``ours`` with the vector or readout as it is in ``other``; its parameters only if both use the same method."""
    entry = other.entry(name)
    if entry is not None and other.method != ours.method:
        entry = replace(entry, parameters={})
    return ours.with_entry(name, entry).with_readout(name, other.readout(name))
