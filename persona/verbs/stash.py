"""``persona stash``: put the edits of ``persona.toml`` aside, and take them back.

A stash is a commit that no branch leads to: its parent is the HEAD that was edited, its text the edited one. ``refs/stash/1``,
``2`` … point at them, so that ``gc`` keeps them. The highest number is the newest and is called ``stash@{0}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.commits import Commit, put_text
from persona.ids import CommitId
from persona.recipe.changes import RecipeChange, changes
from persona.recipe.markers import mark
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import MergeConflict, merge
from persona.repository import Repository, now
from persona.workspace.merging import our_name
from persona.workspace.record import checked_recipe, clean_recipe, refuse_while_merging, worktree_text


@dataclass(frozen=True)
class Stash:
    """A stashed edit. ``name`` is a revision, and ``changes`` are those of the recipe."""

    name: str
    commit: CommitId
    subject: str
    time: str
    changes: tuple[RecipeChange, ...]


@dataclass(frozen=True)
class StashPopped:
    """What ``pop`` took back. ``kept`` means that the stash is still there.

    That is so while ``clashes`` are to be resolved, and if comments of the stash have no place in today's file.
    """

    stash: Stash
    kept: bool
    clashes: tuple[MergeConflict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no conflicts."""
        return not self.clashes


def stash(repo: Repository, *, message: str | None = None, author: str = "", command: str = "stash") -> Stash:
    """Put the edits of ``persona.toml`` aside; the file is then as in HEAD.

    Raises:
        UsageError: ``persona.toml`` is not a valid recipe.
        Refusal: It has no edits, or a merge is unfinished.
    """
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        text, head = worktree_text(repo), repo.head()
        if not repo.is_edited():
            raise Refusal(f"{repo.recipe_path.name} has no edits", "See 'persona status'.")
        recipe = checked_recipe(repo, text, (repo.recipe(head),)).put(repo.objects)
        message = message or f"on {our_name(repo)}, {head[:7]} {repo.commit(head).subject}"
        stored = put_text(repo.objects, text)
        commit = Commit(recipe, stored, (head,), author or repo.author, now(), message).put(repo.objects)
        change.set_ref(refs_.new_stash(repo.refs()), commit)
        change.set_recipe_text(repo.text(head))
        return _stash(repo, 0, commit)


def stashes(repo: Repository) -> list[Stash]:
    """Return the stashed edits, newest first."""
    refs = repo.refs()
    return [_stash(repo, number, refs_.commit_of(ref, refs)) for number, ref in enumerate(refs_.stashes(refs))]


def pop(repo: Repository, which: int = 0, *, command: str = "stash") -> StashPopped:
    """Apply a stashed edit to ``persona.toml``, and drop the stash.

    If HEAD's file has changed since, the recipes are merged three ways.

    Raises:
        UsageError: There is no such stash.
        Refusal: ``persona.toml`` has edits, or a merge is unfinished.
    """
    with clean_recipe(repo, command) as (change, text):
        ref, commit = _find(repo, which)
        found = _stash(repo, which, commit)
        (parent,) = repo.commit(commit).parents
        stashed, before = repo.text(commit), repo.text(parent)
        kept = False
        if text == before:
            text = stashed
        else:
            theirs = repo.recipe(commit)
            merged = merge([repo.recipe(parent)], repo.recipe(repo.head()), theirs)
            text = rewrite(text, merged.recipe, stashed)
            if merged.clashes:
                change.set_recipe_text(mark(text, merged.clashes, our_name(repo), found.name, stashed, theirs))
                return StashPopped(found, True, merged.clashes)
            kept = bool({*_comments(stashed)} - {*_comments(before)} - {*_comments(text)})
        if not kept:
            change.set_ref(ref, None)
        change.set_recipe_text(text)
        return StashPopped(found, kept)


def drop(repo: Repository, which: int = 0, *, command: str = "stash") -> Stash:
    """Drop a stash without applying it. ``undo`` brings it back.

    Raises:
        UsageError: There is no such stash.
    """
    with repo.transaction(command) as change:
        ref, commit = _find(repo, which)
        change.set_ref(ref, None)
        return _stash(repo, which, commit)


def _find(repo: Repository, which: int) -> tuple[str, CommitId]:
    refs = repo.refs()
    known = refs_.stashes(refs)
    if not 0 <= which < len(known):
        raise UsageError(
            f"there is no stash@{{{which}}}", "See 'persona stash list'." if known else "Nothing is stashed."
        )
    return known[which], refs_.commit_of(known[which], refs)


def _stash(repo: Repository, number: int, commit: CommitId) -> Stash:
    stashed = repo.commit(commit)
    differences = changes(repo.recipe(stashed.parents[0]), repo.recipe(commit), repo.objects)
    return Stash(f"stash@{{{number}}}", commit, stashed.subject, stashed.time, tuple(differences))


def _comments(text: str) -> Iterator[str]:
    """Lines with a comment, or with what looks like one."""
    yield from (line.strip() for line in text.splitlines() if "#" in line)
