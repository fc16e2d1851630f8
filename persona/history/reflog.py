"""Former values of refs, from the operation log: ``main@{2}``, ``@{yesterday}``, ``@{-1}``.

Every operation records the refs that it changed, before and after, so no separate reflog is kept. An undo is an
operation too, and counts as a move of its refs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from persona.errors import UsageError
from persona.history import refs as refs_
from persona.history.operations import OperationLog
from persona.ids import CommitId

Moved = tuple[datetime | None, CommitId]


def values(name: str, refs: Mapping[str, str], log: OperationLog) -> Iterator[Moved]:
    """Yield the commits that ``name`` has pointed at, newest first, with the time since when; None for the oldest.

    Args:
        name: A full ref name, or ``HEAD``, which also moves when its branch does.
    """
    now = dict(refs)
    for _, operation in log.walk():
        here = _target(name, now)
        is_moved = bool({name, _follows(name, now)} & set(operation.refs))
        for ref, (before, _after) in operation.refs.items():
            now.pop(ref, None)
            if before is not None:
                now[ref] = before
        if is_moved and here is not None:
            yield datetime.fromisoformat(operation.time), here
    here = _target(name, now)
    if here is not None:
        yield None, here


def nth(name: str, number: int, refs: Mapping[str, str], log: OperationLog) -> CommitId:
    """Return the commit that ``name`` pointed at ``number`` moves ago; 0 is now."""
    count = -1
    for count, (_, commit) in enumerate(values(name, refs, log)):
        if count == number:
            return commit
    short = refs_.short_name(name)
    raise UsageError(f"{short}@{{{number}}}: {short} has only moved {max(count, 0)} times", "See 'persona op log'.")


def at(name: str, when: datetime, refs: Mapping[str, str], log: OperationLog) -> CommitId:
    """Return the commit that ``name`` pointed at at a given time."""
    oldest: datetime | None = None
    for time, commit in values(name, refs, log):
        if time is None or time <= when:
            return commit
        oldest = time
    short = refs_.short_name(name)
    history = f"the history of {short} begins {oldest.isoformat(sep=' ')}" if oldest else f"{short} has no history"
    raise UsageError(f"{history}, after {when.isoformat(sep=' ', timespec='seconds')}", "See 'persona op log'.")


def earlier_places(refs: Mapping[str, str], log: OperationLog) -> Iterator[str]:
    """Yield what ``HEAD`` followed before each checkout, newest first: a branch's name, or a commit's id."""
    here = refs.get(refs_.HEAD)
    for _, operation in log.walk():
        before = operation.refs.get(refs_.HEAD, (None, None))[0]
        if before is not None and before != here:
            yield before.removeprefix(refs_.SYMBOLIC + refs_.BRANCHES)
            here = before


def _follows(name: str, refs: Mapping[str, str]) -> str:
    head = refs.get(refs_.HEAD, "")
    return head.removeprefix(refs_.SYMBOLIC) if name == refs_.HEAD and head.startswith(refs_.SYMBOLIC) else name


def _target(name: str, refs: Mapping[str, str]) -> CommitId | None:
    value = refs.get(_follows(name, refs))
    return CommitId(value) if value is not None else None
