"""Every object of a repository, each read and hashed once, and the graph that they make."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from persona.ids import ObjectId, object_digest
from persona.maintenance.references import Edges, beginnings_in, edges, ids_in
from persona.store.objects import VERSION, Fields, ObjectStore

TEMPORARY = ".tmp-"
"""In the name of every unfinished file."""


@dataclass(frozen=True)
class CatalogEntries:
    """One readable object. ``others`` are ids, or beginnings of ids, that it names besides its edges."""

    kind: str
    size: int
    edges: Edges
    others: frozenset[str] = frozenset()
    time: str = ""
    subject: str = ""
    newer: bool = False


@dataclass
class Catalog:
    """Readable objects, those that are not and why, and files that are no objects."""

    known: dict[ObjectId, CatalogEntries] = field(default_factory=dict)
    bad: dict[ObjectId, str] = field(default_factory=dict)
    strays: list[Path] = field(default_factory=list)

    @cached_property
    def names(self) -> list[ObjectId]:
        """Ids of all readable objects, sorted."""
        return sorted(self.known)

    def of_kind(self, kind: str) -> list[ObjectId]:
        """Ids of the readable objects of one kind, sorted."""
        return [name for name in self.names if self.known[name].kind == kind]

    def beginning_with(self, text: str) -> list[ObjectId]:
        """Ids of readable objects that begin with ``text``."""
        found, at = [], bisect_left(self.names, text)
        while at < len(self.names) and self.names[at].startswith(text):
            found.append(self.names[at])
            at += 1
        return found

    def named(self, texts: Iterable[str]) -> set[ObjectId]:
        """Readable objects that whole ids or beginnings of them mean."""
        return {name for text in texts for name in self.beginning_with(text)}

    def children_first(self, commits: Iterable[ObjectId]) -> list[ObjectId]:
        """Commits in the order given, except that none comes after its parents."""
        parents = {
            name: [other for other, kind in self.known[name].edges.objects if kind == "commit"] for name in commits
        }
        children = Counter(parent for names in parents.values() for parent in names)
        order = [name for name in parents if not children[name]]
        for name in order:  # grows while it is walked
            for parent in parents.get(name, ()):
                children[parent] -= 1
                if not children[parent] and parent in parents:
                    order.append(parent)
        return order

    def reach(self, starts: Iterable[str]) -> set[ObjectId]:
        """Readable objects among ``starts`` and all that they need or name; an operation needs only its parent."""
        queue, seen = list(starts), set[ObjectId]()
        while queue:
            name = ObjectId(queue.pop())
            known = self.known.get(name)
            if known is None or name in seen:
                continue
            seen.add(name)
            queue += (other for other, _ in known.edges.objects)
            if known.kind != "operation":
                queue += self.named(known.others)
        return seen


def read_all(objects: ObjectStore) -> Catalog:
    """Read, hash and take apart every object."""
    catalog = Catalog()
    for path in sorted(objects.folder.rglob("*")) if objects.folder.is_dir() else ():
        if path.is_dir():
            continue
        try:
            name = ObjectId(path.parent.name + path.name)
        except ValueError:
            name = None
        if name is None or objects.path(name) != path:
            catalog.strays.append(path)
            continue
        _read(catalog, name, path)
    return catalog


def _read(catalog: Catalog, name: ObjectId, path: Path) -> None:
    try:
        data = path.read_bytes()
        if object_digest(data) != name:
            raise ValueError("it does not hash to its name")
        catalog.known[name] = _known(json.loads(data), data)
    except FileNotFoundError:
        return  # deleted since it was listed
    except OSError as error:
        catalog.bad[name] = f"it cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        catalog.bad[name] = str(error)


def _known(fields: Fields, data: bytes) -> CatalogEntries:
    kind, newer = str(fields["kind"]), int(fields["version"]) > VERSION
    own = Edges() if newer else edges(kind, fields)
    others = ids_in(data) - own.ids
    if kind == "text":
        others |= beginnings_in(str(fields.get("text", "")))
    shown = ("commit", "operation")
    return CatalogEntries(
        kind=kind,
        size=len(data),
        edges=own,
        others=frozenset(others),
        time=str(fields.get("time", "")) if kind in shown else "",
        subject=str(fields.get("message", "")).strip().partition("\n")[0] if kind == "commit" else "",
        newer=newer,
    )
