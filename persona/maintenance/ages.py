"""How old operations are for ``gc``: by their times, and by their order where a time cannot be true.

A clock may stand at 1970, or in the future, while a command runs. Each operation comes after its parent, so a time is not
believed if it is earlier than that of an operation before it, later than now, or unreadable. Such an operation is as young
as the next one whose time is believed; with none after it, it is as young as can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from persona.ids import ObjectId
from persona.maintenance.catalog import Catalog

_NEVER = datetime.min.replace(tzinfo=UTC)


def ages(catalog: Catalog, now: datetime) -> dict[ObjectId, datetime]:
    """Return the latest time at which each operation may have happened; none is earlier than that of its parent."""
    parents = {name: parent_of(catalog, name) for name in catalog.of_kind("operation")}
    order = list(_parents_first(parents))
    latest: dict[ObjectId | None, datetime] = {None: _NEVER}  # of the operation and all before it, as far as believed
    believed = dict[ObjectId, datetime]()
    for name in order:
        before, time = latest[parents[name]], _time(catalog.known[name].time)
        if time is not None and before <= time <= now:
            believed[name] = time
        latest[name] = believed.get(name, before)
    found = dict[ObjectId, datetime]()
    following = dict[ObjectId | None, datetime]()  # of the youngest that comes after it
    for name in reversed(order):
        found[name] = believed.get(name) or following.get(name, now)
        parent = parents[name]
        following[parent] = max(following.get(parent, _NEVER), found[name])
    return found


def newest(catalog: Catalog, head: ObjectId | None, count: int) -> Iterator[ObjectId]:
    """Yield the newest operation and those before it, at most ``count``."""
    while head in catalog.known and count > 0:
        yield head
        head, count = parent_of(catalog, head), count - 1


def parent_of(catalog: Catalog, operation: ObjectId) -> ObjectId | None:
    """Return the operation before this one, if it is there."""
    return next((name for name, _ in catalog.known[operation].references.objects if name in catalog.known), None)


def _parents_first(parents: Mapping[ObjectId, ObjectId | None]) -> Iterator[ObjectId]:
    children: dict[ObjectId | None, list[ObjectId]] = {}
    for name, parent in parents.items():
        children.setdefault(parent, []).append(name)
    queue = children.get(None, [])
    while queue:
        name = queue.pop()
        yield name
        queue += children.get(name, [])


def _time(text: str) -> datetime | None:
    """Read a time; None if it is not one, or says no time zone."""
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return time if time.tzinfo else None
