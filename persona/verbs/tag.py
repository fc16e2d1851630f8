"""``persona tag``: names for commits that do not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.ids import CommitId
from persona.repository import Repository


@dataclass(frozen=True)
class Tag:
    """A tag and the commit that it points at."""

    name: str
    commit: CommitId
    subject: str


def tags(repo: Repository, pattern: str | None = None) -> list[Tag]:
    """Return the tags whose names match a shell pattern, or all, sorted by name."""
    refs = repo.refs()
    names = sorted(refs_.short_names(refs, (refs_.TAGS,)))
    return [_tag(repo, name, refs) for name in names if pattern is None or fnmatchcase(name, pattern)]


def tag(repo: Repository, name: str, rev: str = refs_.HEAD, *, force: bool = False, command: str = "tag") -> Tag:
    """Tag the commit ``rev``; with ``force``, move an existing tag.

    Raises:
        UsageError: The name is invalid, or the tag exists already.
    """
    with repo.transaction(command) as change:
        refs = repo.refs()
        ref = refs_.TAGS + refs_.checked_name(name)
        if ref in refs and not force:
            where = refs_.commit_of(ref, refs)
            raise UsageError(
                f"a tag named '{name}' already exists, at {where[:7]}", "Choose another name, or move it with --force."
            )
        commit = repo.resolve(rev)
        change.set_ref(ref, commit)
        return Tag(name, commit, repo.commit(commit).subject)


def delete_tags(repo: Repository, names: Sequence[str], *, command: str = "tag") -> list[Tag]:
    """Delete tags. Commits that nothing else refers to are then left to ``gc``.

    Raises:
        UsageError: There is no such tag.
    """
    with repo.transaction(command) as change:
        refs = repo.refs()
        deleted = []
        for name in dict.fromkeys(names):
            if refs_.TAGS + name not in refs:
                raise UsageError(f"no tag '{name}'", did_you_mean(name, refs_.short_names(refs, (refs_.TAGS,))))
            deleted.append(_tag(repo, name, refs))
            change.set_ref(refs_.TAGS + name, None)
        return deleted


def _tag(repo: Repository, name: str, refs: dict[str, str]) -> Tag:
    commit = refs_.commit_of(refs_.TAGS + name, refs)
    return Tag(name, commit, repo.commit(commit).subject)
