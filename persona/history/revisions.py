"""Revision syntax, as in git.

HEAD  @  main  refs/heads/main  v1.2  3f2a9c4      a branch, a tag, a prefix of a commit's id
REV~  REV~3  REV^  REV^2                           ancestors by first parents; the second parent
main@{2}  @{2}  HEAD@{2}                           two moves ago (alone: of the current branch)
main@{yesterday}  @{2 hours ago}                   at that time
stash@{0}                                          the newest stashed edit
@{-1}  -                                           before the last checkout
MERGE_HEAD                                         the commit that an unfinished merge is merging
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from persona.errors import UsageError, did_you_mean
from persona.history import reflog
from persona.history import refs as refs_
from persona.history.commits import Commit
from persona.history.operations import OperationLog
from persona.history.times import parse_time
from persona.ids import CommitId
from persona.store.objects import ObjectStore

_PARTS = re.compile(r"(?P<name>[^~^]*?)(?:@\{(?P<at>[^{}]*)\})?(?P<steps>(?:~\d{0,9}|\^\d{0,9})*)")
_STEP = re.compile(r"([~^])(\d*)")


@dataclass(frozen=True)
class Places:
    """What a revision is looked up in; ``log`` and ``now`` are only needed for ``@{…}``."""

    refs: Mapping[str, str]
    objects: ObjectStore
    log: OperationLog | None
    now: datetime


def resolve(
    text: str,
    refs: Mapping[str, str],
    objects: ObjectStore,
    log: OperationLog | None = None,
    now: datetime | None = None,
) -> CommitId:
    """Return the commit that a revision names.

    Args:
        text: A revision, in the syntax above.
        log: The operation log, for revisions with ``@{…}``.
        now: What relative times are relative to; the current time by default.

    Raises:
        UsageError: The revision is invalid, ambiguous or unknown.
    """
    places = Places(refs, objects, log, now or datetime.now().astimezone())
    match = _PARTS.fullmatch("@{-1}" if text == "-" else text)
    if match is None:
        raise UsageError(f"'{text}' is not a revision", "Write it like 'HEAD~1', 'main', '@{1}', 'v1.2' or '3f2a9c4d'.")
    name, when = match["name"], match["at"]
    commit = _named(name or refs_.HEAD, text, places) if when is None else _earlier(name, when, text, places)
    for kind, count in _STEP.findall(match["steps"]):
        commit = _step(commit, kind, int(count or 1), text, objects)
    return commit


def ref_named(name: str, refs: Mapping[str, str]) -> str | None:
    """Return the full name of a branch or tag (``refs/heads/main`` for ``main``), or None if there is none."""
    return next((prefix + name for prefix in (refs_.BRANCHES, refs_.TAGS, "") if prefix + name in refs), None)


def _named(name: str, text: str, places: Places) -> CommitId:
    refs, objects = places.refs, places.objects
    if name in (refs_.HEAD, "@"):
        return refs_.head_commit(refs)
    if name == refs_.MERGE_HEAD and refs_.merge_heads(refs):
        return refs_.merge_heads(refs)[0]
    matches: list[CommitId] = []
    if refs_.is_like_an_id(name):  # an id means its commit, whatever a branch or tag is called
        matches = [CommitId(i) for i in objects.matching(name) if objects.kind(i) == "commit"]
        if len(matches) == 1:
            return matches[0]
    if (ref := ref_named(name, refs)) is not None:
        return refs_.commit_of(ref, refs)
    if matches:
        raise UsageError(
            f"'{name}' is ambiguous: it matches {len(matches)} commits: {', '.join(i.short for i in matches)}",
            "Type more characters of the id.",
        )
    raise UsageError(f"no revision '{text}'", did_you_mean(name, [*refs_.short_names(refs), refs_.HEAD]))


def _earlier(name: str, when: str, text: str, places: Places) -> CommitId:
    """Resolve ``name@{when}``; without a name, of the current branch."""
    refs, log, now = places.refs, places.log, places.now
    assert log is not None, "a revision with @{…} needs the operation log"
    if re.fullmatch(r"-\d{1,9}", when):
        return _place_before(name, int(when[1:]), text, places)
    if name in ("", "@"):
        branch = refs_.current_branch(refs)
        ref: str | None = refs_.HEAD if branch is None or name == "@" else refs_.BRANCHES + branch
    else:
        ref = refs_.HEAD if name == refs_.HEAD else ref_named(name, refs)
    if ref is None and name == "stash" and when.isdecimal():
        return _stash(int(when[:9]), text, refs)
    if ref is None:
        raise UsageError(f"no branch or tag '{name}'", did_you_mean(name, [*refs_.short_names(refs), refs_.HEAD]))
    if re.fullmatch(r"\d{1,9}", when):
        return reflog.nth(ref, int(when), refs, log)
    return reflog.at(ref, parse_time(when, now), refs, log)


def _stash(number: int, text: str, refs: Mapping[str, str]) -> CommitId:
    known = refs_.stashes(refs)
    if number >= len(known):
        raise UsageError(f"there is no {text}", "See 'persona stash list'.")
    return refs_.commit_of(known[number], refs)


def place_before(number: int, refs: Mapping[str, str], log: OperationLog) -> str | None:
    """Return the branch's name or commit's id that HEAD followed ``number`` checkouts ago."""
    return next(islice(reflog.earlier_places(refs, log), number - 1, None), None) if number > 0 else None


def _place_before(name: str, number: int, text: str, places: Places) -> CommitId:
    assert places.log is not None
    earlier = place_before(number, places.refs, places.log) if name in ("", "@", refs_.HEAD) else None
    if earlier is None:
        raise UsageError(f"'{text}': there were fewer checkouts than that", "See 'persona op log'.")
    return _named(earlier, text, places)


def _step(commit: CommitId, kind: str, count: int, text: str, objects: ObjectStore) -> CommitId:
    if kind == "^":
        return commit if count == 0 else _parent(commit, count, text, objects)
    for _ in range(count):
        commit = _parent(commit, 1, text, objects)
    return commit


def _parent(commit: CommitId, number: int, text: str, objects: ObjectStore) -> CommitId:
    parents = Commit.get(objects, commit).parents
    if number > len(parents):
        what = "is the first commit" if not parents else f"has {len(parents)} parent{'s' if len(parents) > 1 else ''}"
        raise UsageError(f"'{text}' goes further back than history does: {commit.short} {what}", "See 'persona log'.")
    return parents[number - 1]
