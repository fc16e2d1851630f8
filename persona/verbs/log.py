"""``persona log``: commits, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from persona.history import commits
from persona.history import refs as refs_
from persona.history.headline import headline
from persona.ids import CommitId
from persona.repository import Repository


@dataclass(frozen=True)
class Logged:
    """One commit as the log shows it; ``names`` are the branches and tags that stand on it."""

    commit: CommitId
    subject: str
    author: str
    time: str
    parents: tuple[CommitId, ...]
    names: tuple[str, ...]
    is_head: bool
    run: Mapping[str, Any] = field(default_factory=dict)
    headline: str | None = None


def log(repo: Repository, rev: str = refs_.HEAD, *, limit: int | None = None) -> list[Logged]:
    """The commit that ``rev`` means, and its ancestors."""
    refs = repo.refs()
    head = refs_.head_commit(refs)
    names: dict[str, list[str]] = {}
    for ref, value in sorted(refs.items()):
        if ref.startswith((refs_.BRANCHES, refs_.TAGS)):
            names.setdefault(value, []).append(ref.removeprefix(refs_.BRANCHES).replace(refs_.TAGS, "tag: "))
    start = repo.resolve(rev)
    return [
        Logged(
            name,
            c.subject,
            c.author,
            c.time,
            c.parents,
            tuple(names.get(name, ())),
            name == head,
            c.run,
            headline(c.run),
        )
        for name, c in islice(commits.walk(repo.objects, [start]), limit)
    ]
