"""Every object of a repository, each read and hashed once, and the graph of their references."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from persona.files import LARGEST_JSON, Unfit, below, read_bytes, storage_error
from persona.history.commits import sort_children_first
from persona.ids import ObjectId, object_digest
from persona.maintenance.references import References, ids_in, prefixes_in, references_of
from persona.store.fields import count, table, text
from persona.store.objects import VERSION, Fields, ObjectStore, parsed

TEMPORARY = ".tmp-"
"""Part of the name of every unfinished file."""


@dataclass(frozen=True)
class CatalogEntry:
    """One readable object. ``others`` are ids, or prefixes of ids, that it mentions besides its references."""

    kind: str
    size: int
    references: References
    others: frozenset[str] = frozenset()
    time: str = ""
    subject: str = ""
    newer: bool = False


@dataclass
class Catalog:
    """The objects of a repository.

    Attributes:
        known: Readable objects.
        bad: Damaged ones, with the reason.
        strays: Files that are not objects.
        unread: Sentences about files and folders that cannot be read, although they may be whole.
    """

    known: dict[ObjectId, CatalogEntry] = field(default_factory=dict)
    bad: dict[ObjectId, str] = field(default_factory=dict)
    strays: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @cached_property
    def names(self) -> list[ObjectId]:
        """The ids of all readable objects, sorted."""
        return sorted(self.known)

    def of_kind(self, kind: str) -> list[ObjectId]:
        """Return the ids of the readable objects of one kind, sorted."""
        return [name for name in self.names if self.known[name].kind == kind]

    def beginning_with(self, text: str) -> list[ObjectId]:
        """Return the ids of readable objects that start with ``text``."""
        matches, at = [], bisect_left(self.names, text)
        while at < len(self.names) and self.names[at].startswith(text):
            matches.append(self.names[at])
            at += 1
        return matches

    def named(self, texts: Iterable[str]) -> set[ObjectId]:
        """Return the readable objects that these ids, or prefixes of ids, name."""
        return {name for text in texts for name in self.beginning_with(text)}

    def children_first(self, commits: Iterable[ObjectId]) -> list[ObjectId]:
        """Return commits in the given order, except that none comes after its parents."""
        parents = {
            name: [other for other, kind in self.known[name].references.objects if kind == "commit"] for name in commits
        }
        return sort_children_first(parents)

    def reach(self, starts: Iterable[str]) -> set[ObjectId]:
        """Return the readable objects among ``starts`` and all that they need or mention.

        From an operation only its parent is followed, not the refs that it would restore.
        """
        queue, seen = list(starts), set[ObjectId]()
        while queue:
            name = ObjectId(queue.pop())
            entry = self.known.get(name)
            if entry is None or name in seen:
                continue
            seen.add(name)
            queue += (other for other, _ in entry.references.objects)
            if entry.kind != "operation":
                queue += self.named(entry.others)
        return seen


def read_all(objects: ObjectStore) -> Catalog:
    """Read, hash and parse every object."""
    catalog = Catalog()
    for path in below(objects.folder, lambda error: catalog.unread.append(error.message)):
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
        data = read_bytes(path, LARGEST_JSON)
        if object_digest(data) != name:
            raise ValueError("it does not hash to its name")
        catalog.known[name] = _entry(parsed(data), data)
    except FileNotFoundError:
        return  # deleted since it was listed
    except OSError as error:
        catalog.bad[name] = f"it cannot be read: {error.strerror}"
        if not isinstance(error, Unfit):  # a pipe in its place is not whole, and never will be
            catalog.unread.append(storage_error(error, path).message)
    except ValueError as error:
        catalog.bad[name] = str(error)


def _entry(fields: Fields, data: bytes) -> CatalogEntry:
    kind, version = text(table(fields, "it").get("kind"), "kind"), count(fields.get("version"), "version")
    newer = version > VERSION
    references = References() if newer else references_of(kind, fields)
    others = ids_in(data) - references.ids
    if kind == "text":
        others |= prefixes_in(str(fields.get("text", "")))
    return CatalogEntry(
        kind=kind,
        size=len(data),
        references=references,
        others=frozenset(others),
        time=str(fields.get("time", "")) if kind in ("commit", "operation") else "",
        subject=str(fields.get("message", "")).strip().partition("\n")[0] if kind == "commit" else "",
        newer=newer,
    )
