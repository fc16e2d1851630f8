"""``persona branch``: lines of history, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from persona.errors import Refusal, UsageError, did_you_mean
from persona.history import refs as refs_
from persona.ids import CommitId
from persona.repository import Repository


@dataclass(frozen=True)
class Branch:
    """A branch and where it stands."""

    name: str
    commit: CommitId
    subject: str
    current: bool


def branches(repo: Repository) -> list[Branch]:
    """All branches, by name."""
    refs = repo.refs()
    current = refs_.current_branch(refs)
    found = []
    for name in sorted(refs_.short_names(refs, (refs_.BRANCHES,))):
        commit = refs_.commit_of(refs_.BRANCHES + name, refs)
        found.append(Branch(name, commit, repo.commit(commit).subject, name == current))
    return found


def branch(
    repo: Repository, name: str, rev: str = refs_.HEAD, *, force: bool = False, command: str = "branch"
) -> Branch:
    """Make a branch that stands on ``rev``; with ``force``, move one that is there already."""
    with repo.transaction(command) as change:
        refs = repo.refs()
        ref = refs_.BRANCHES + refs_.checked_name(name)
        if ref in refs and not force:
            raise UsageError(f"there is a branch '{name}' already", f"Go to it: persona switch {name}")
        if force and refs_.current_branch(refs) == name:
            raise Refusal(f"'{name}' is the branch that you are on", "Go to another one first: persona switch NAME")
        commit = repo.resolve(rev)
        change.set_ref(ref, commit)
        return Branch(name, commit, repo.commit(commit).subject, False)


def rename_branch(
    repo: Repository, old: str | None, new: str, *, force: bool = False, command: str = "branch"
) -> Branch:
    """Give a branch (the current one unless named) another name; HEAD follows."""
    with repo.transaction(command) as change:
        refs = repo.refs()
        current = refs_.current_branch(refs)
        old = old or current
        if old is None:
            raise UsageError("HEAD is detached, so there is no current branch", "Name both: persona branch -m OLD NEW")
        before, after = _known(old, refs), refs_.BRANCHES + refs_.checked_name(new)
        commit = refs_.commit_of(before, refs)
        if before != after:
            if after in refs and (not force or new == current):
                raise UsageError(f"there is a branch '{new}' already", "Choose another name.")
            change.set_ref(before, None)
            change.set_ref(after, commit)
            if old == current:
                change.set_ref(refs_.HEAD, refs_.SYMBOLIC + after)
        return Branch(new, commit, repo.commit(commit).subject, old == current)


def delete_branches(
    repo: Repository, names: Sequence[str], *, force: bool = False, command: str = "branch"
) -> list[Branch]:
    """Take branches away; one whose commits no other branch or tag has only with ``force``."""
    with repo.transaction(command) as change:
        refs = repo.refs()
        current = refs_.current_branch(refs)
        gone = []
        for name in dict.fromkeys(names):
            ref = _known(name, refs)
            if name == current:
                raise Refusal(f"'{name}' is the branch that you are on", "Go to another one first: persona switch NAME")
            commit = refs_.commit_of(ref, refs)
            gone.append(Branch(name, commit, repo.commit(commit).subject, False))
            change.set_ref(ref, None)
        if not force:
            _check_merged(repo, gone)
        return gone


def _check_merged(repo: Repository, gone: Sequence[Branch]) -> None:
    """Raise if history would be left without a name."""
    refs = repo.refs()
    going = {refs_.BRANCHES + one.name for one in gone}
    heads = [refs_.commit_of(r, refs) for r in refs if r.startswith((refs_.BRANCHES, refs_.TAGS)) and r not in going]
    kept = repo.ancestry.of([refs_.head_commit(refs), *heads])
    for one in gone:
        if one.commit not in kept:
            raise Refusal(
                f"branch '{one.name}' has commits that no other branch or tag has",
                f"Merge it (persona merge {one.name}), or delete it all the same: persona branch -D {one.name}",
            )


def _known(name: str, refs: dict[str, str]) -> str:
    ref = refs_.BRANCHES + name
    if ref not in refs:
        raise UsageError(f"no branch '{name}'", did_you_mean(name, refs_.short_names(refs, (refs_.BRANCHES,))))
    return ref
