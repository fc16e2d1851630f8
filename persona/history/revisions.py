"""Revision syntax: ``HEAD``, ``main``, a tag, a short id, and ``~N``, ``^``, ``^N`` after any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from persona.errors import UsageError, did_you_mean
from persona.history import refs as refs_
from persona.history.commits import Commit
from persona.ids import CommitId
from persona.store.objects import ObjectStore

MIN_PREFIX = 4
"""Characters of an id that must be typed at least."""

_STEP = re.compile(r"~(\d*)|\^(\d*)")
_HEX = re.compile(r"[0-9a-f]+")


def resolve(text: str, refs: Mapping[str, str], objects: ObjectStore) -> CommitId:
    """The commit that ``text`` means."""
    name, steps = _split(text)
    commit = _named(name, text, refs, objects)
    for kind, count in steps:
        commit = _step(commit, kind, count, text, objects)
    return commit


def _split(text: str) -> tuple[str, list[tuple[str, int]]]:
    cut = min((i for i in (text.find("~"), text.find("^")) if i >= 0), default=len(text))
    name, rest = text[:cut] or refs_.HEAD, text[cut:]
    steps, at = [], 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise UsageError(f"'{text}' is not a revision", "Write it like 'HEAD~1', 'main', 'v1.2' or '3f2a9c4d'.")
        steps.append((match[0][0], int(match[1] or match[2] or 1)))
        at = match.end()
    return name, steps


def _named(name: str, text: str, refs: Mapping[str, str], objects: ObjectStore) -> CommitId:
    if name in (refs_.HEAD, "@"):
        return refs_.head_commit(refs)
    for prefix in (refs_.BRANCHES, refs_.TAGS, ""):
        if prefix + name in refs:
            return refs_.commit_of(prefix + name, refs)
    if _HEX.fullmatch(name) and len(name) >= MIN_PREFIX:
        found = [CommitId(i) for i in objects.matching(name) if objects.kind(i) == "commit"]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"'{name}' begins the ids of {len(found)} commits: {', '.join(i.short for i in found)}",
                "Type more of it.",
            )
    known = [r.removeprefix(refs_.BRANCHES).removeprefix(refs_.TAGS) for r in refs if r != refs_.HEAD]
    raise UsageError(f"no revision '{text}'", did_you_mean(name, [*known, refs_.HEAD]))


def _step(commit: CommitId, kind: str, count: int, text: str, objects: ObjectStore) -> CommitId:
    if kind == "^":
        return commit if count == 0 else _parent(commit, count, text, objects)
    for _ in range(count):
        commit = _parent(commit, 1, text, objects)
    return commit


def _parent(commit: CommitId, number: int, text: str, objects: ObjectStore) -> CommitId:
    parents = Commit.get(objects, commit).parents
    if number > len(parents):
        what = "is the first commit" if not parents else f"has {len(parents)} parent(s)"
        raise UsageError(f"'{text}' goes further back than history does: {commit.short} {what}", "See 'persona log'.")
    return parents[number - 1]
