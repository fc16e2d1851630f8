"""``persona branch``: list, create, rename and delete branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from persona.errors import Refusal, UsageError, did_you_mean
from persona.history import refs as refs_
from persona.ids import CommitId
from persona.repository import Repository


@dataclass(frozen=True)
class Branch:
    """A branch and the commit that it points at; ``current`` means that HEAD follows it."""

    name: str
    commit: CommitId
    subject: str
    current: bool


def branches(repo: Repository) -> list[Branch]:
    """Return all branches, sorted by name."""
    refs = repo.refs()
    current = refs_.current_branch(refs)
    names = sorted(refs_.short_names(refs, (refs_.BRANCHES,)))
    return [_branch(repo, name, refs_.commit_of(refs_.BRANCHES + name, refs), name == current) for name in names]


def branch(
    repo: Repository, name: str, rev: str = refs_.HEAD, *, force: bool = False, command: str = "branch"
) -> Branch:
    """Create a branch at ``rev``; with ``force``, move an existing one.

    Raises:
        UsageError: The name is invalid, or the branch exists already.
        Refusal: ``force`` would move the current branch.
    """
    with repo.transaction(command) as change:
        refs = repo.refs()
        ref = refs_.branch_ref(name, refs, force=force)
        if force and refs_.current_branch(refs) == name:
            raise _is_current(name)
        commit = repo.resolve(rev)
        change.set_ref(ref, commit)
        return _branch(repo, name, commit)


def rename_branch(
    repo: Repository, old: str | None, new: str, *, force: bool = False, command: str = "branch"
) -> Branch:
    """Rename a branch; HEAD follows.

    Args:
        old: The branch to rename; the current one for None.
        force: Overwrite an existing branch ``new``, unless it is the current one.

    Raises:
        UsageError: There is no branch ``old``, ``new`` exists already, or HEAD is detached and ``old`` is None.
    """
    with repo.transaction(command) as change:
        refs = repo.refs()
        current = refs_.current_branch(refs)
        old = old or current
        if old is None:
            raise UsageError(
                "HEAD is detached, so there is no current branch", "Give both names: persona branch -m OLD NEW"
            )
        before, after = _known(old, refs), refs_.BRANCHES + refs_.checked_name(new)
        commit = refs_.commit_of(before, refs)
        if before != after:
            if after in refs and (not force or new == current):
                raise UsageError(f"a branch named '{new}' already exists", "Choose another name.")
            change.set_ref(before, None)
            change.set_ref(after, commit)
            if old == current:
                change.set_ref(refs_.HEAD, refs_.SYMBOLIC + after)
        return _branch(repo, new, commit, old == current)


def delete_branches(
    repo: Repository, names: Sequence[str], *, force: bool = False, command: str = "branch"
) -> list[Branch]:
    """Delete branches.

    Args:
        force: Also delete branches with commits that no other branch or tag contains.

    Raises:
        UsageError: There is no such branch.
        Refusal: A branch is the current one, or is not merged and ``force`` is not set.
    """
    with repo.transaction(command) as change:
        refs = repo.refs()
        current = refs_.current_branch(refs)
        deleted = []
        for name in dict.fromkeys(names):
            ref = _known(name, refs)
            if name == current:
                raise _is_current(name)
            deleted.append(_branch(repo, name, refs_.commit_of(ref, refs)))
            change.set_ref(ref, None)
        if not force:
            _check_merged(repo, deleted)
        return deleted


def _branch(repo: Repository, name: str, commit: CommitId, current: bool = False) -> Branch:
    return Branch(name, commit, repo.commit(commit).subject, current)


def _is_current(name: str) -> Refusal:
    return Refusal(f"'{name}' is the current branch", "Switch to another one first: persona switch NAME")


def _check_merged(repo: Repository, deleted: Sequence[Branch]) -> None:
    """Raise Refusal if no other branch or tag contains the commits of a deleted branch."""
    refs = repo.refs()
    names = {refs_.BRANCHES + branch.name for branch in deleted}
    kept = repo.ancestry.of([refs_.head_commit(refs), *refs_.tips(refs, without=names)])
    for branch in deleted:
        if branch.commit not in kept:
            raise Refusal(
                f"branch '{branch.name}' has commits that no other branch or tag has",
                f"Merge it (persona merge {branch.name}), or delete it anyway: persona branch -D {branch.name}",
            )


def _known(name: str, refs: dict[str, str]) -> str:
    ref = refs_.BRANCHES + name
    if ref not in refs:
        raise UsageError(f"no branch '{name}'", did_you_mean(name, refs_.short_names(refs, (refs_.BRANCHES,))))
    return ref
