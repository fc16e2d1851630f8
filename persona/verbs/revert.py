"""``persona revert``: undo the changes of one commit, and keep what came after it.

This is a three-way merge: the base is the commit, ours is HEAD, and theirs is the commit's parent.
"""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.ids import CommitId
from persona.recipe.markers import mark
from persona.recipe.rewrite import rewrite
from persona.recipe.threeway import MergeConflict, merge
from persona.repository import Repository
from persona.workspace.merging import our_name
from persona.workspace.record import RecordedCommit, clean_recipe, record


@dataclass(frozen=True)
class RevertResult:
    """The reverted commit. ``recorded`` is the new commit, null while the conflicts in ``clashes`` are not resolved."""

    commit: CommitId
    subject: str
    recorded: RecordedCommit | None
    clashes: tuple[MergeConflict, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no conflicts."""
        return not self.clashes


def revert(
    repo: Repository,
    rev: str,
    *,
    mainline: int | None = None,
    message: str | None = None,
    author: str = "",
    command: str = "revert",
) -> RevertResult:
    """Revert a commit in a new commit.

    Args:
        rev: The commit to revert.
        mainline: For a merge, the number of the parent to go back to, from 1.

    Raises:
        UsageError: ``rev`` is a merge and ``mainline`` is missing, or there is no such parent.
        Refusal: Nothing would change, ``rev`` is the first commit, or ``persona.toml`` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        commit = repo.resolve(rev)
        parent = _parent(repo, commit, rev, mainline)
        subject = repo.commit(commit).subject
        theirs = repo.recipe(parent)
        their_text = repo.text(parent)
        merged = merge([repo.recipe(commit)], repo.recipe(repo.head()), theirs)
        text = rewrite(text, merged.recipe, their_text)
        if merged.clashes:
            label = f"before {commit[:7]}"
            change.set_recipe_text(mark(text, merged.clashes, our_name(repo), label, their_text, theirs))
            return RevertResult(commit, subject, None, merged.clashes)
        if text == repo.head_text():
            raise Refusal(f"nothing of {commit[:7]} is left to revert", "See 'persona log'.")
        subject_line = message or f'revert "{subject}"\n\nThis reverts commit {commit.short}.'
        return RevertResult(commit, subject, record(repo, change, text, subject_line, author))


def _parent(repo: Repository, commit: CommitId, rev: str, mainline: int | None) -> CommitId:
    parents = repo.commit(commit).parents
    if not parents:
        raise Refusal(f"{commit[:7]} is the first commit and cannot be reverted", "See 'persona log'.")
    if len(parents) > 1 and mainline is None:
        named = ", ".join(f"{number}: {parent[:7]}" for number, parent in enumerate(parents, 1))
        raise UsageError(
            f"{rev} is a merge with {len(parents)} parents ({named})",
            f"Give the parent to go back to: persona revert {rev} -m 1",
        )
    number = mainline or 1
    if not 1 <= number <= len(parents):
        raise UsageError(f"{rev} has no parent {number}", f"It has {len(parents)}.")
    return parents[number - 1]
