"""What ``gc`` would do, as pure data: which objects and files to delete, and which packs to rewrite.

An object is live if it can be reached from any id in the small files of ``.persona``, from the current recipe, or from
what the last operations and those within the grace period mention, before and after; operation objects always stay. A live tensor that is
stored as a delta keeps its base tensor.

A tensor may be in several files, for example after a killed gc. One copy is kept, preferring a full copy to a delta,
the store to files outside, a file that stays anyway, a safetensors file to a pack, and a small pack to a large one. The
copy is decoded first, and the next one is chosen if it is damaged, so that the last good copy is never given up for a
bad one.

A file outside the store belongs to its user: a plan never contains it, only the list that refers to it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path

from persona.errors import Damaged, Storage
from persona.files import below
from persona.ids import ObjectId
from persona.maintenance import catalog as catalog_
from persona.maintenance import roots as roots_
from persona.maintenance import weights as weights_
from persona.maintenance.catalog import Catalog, CatalogEntry
from persona.maintenance.check import RepositoryFiles
from persona.maintenance.joining import Repack, groups
from persona.maintenance.weights import Copy, Key, Weights
from persona.progress import SILENT
from persona.store.packs import Volume
from persona.store.tensors import TensorStore

MOSTLY_DEAD = 0.5
"""A pack is rewritten if a smaller share of its stored bytes is live."""

DELETION_ORDER = ("commit", "text", "fisher", "recipe", "vector", "readout", "base", "graph", "node", "evaluation")
"""Kinds in the order of deletion, referring ones first. Baked vectors refer to a recipe, derived ones to vectors."""


_LEFTOVER = re.compile(r"\.persona(\.toml)?\.tmp-[0-9a-f]{12}(\.replaced)?")
"""Leftovers of a killed command next to a ``.persona``."""


@dataclass(frozen=True)
class GcPlan:
    """What to delete: ``phases`` of objects, one after the other, and whole packs and safetensors ``files``.

    ``repacks`` are written anew without what is not needed, and each of the ``joins`` becomes one pack.
    """

    phases: tuple[tuple[ObjectId, ...], ...] = ()
    files: tuple[Path, ...] = ()
    repacks: tuple[Repack, ...] = ()
    joins: tuple[tuple[Repack, ...], ...] = ()
    unfinished: tuple[Path, ...] = ()
    freed: int = 0
    kept_objects: int = 0
    kept_bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Live:
    """Objects to keep, every id that they name, and the copies of tensors and blobs to keep."""

    objects: set[ObjectId]
    named: set[str]
    copies: set[Key] = field(default_factory=set)


def plan(repo: RepositoryFiles, now: datetime, grace: timedelta) -> GcPlan:
    """Find out what may be deleted.

    Args:
        grace: Age up to which the contents of an operation are kept.

    Raises:
        Damaged: A needed object is damaged, so what it refers to is unknown.
        Storage: A file or folder cannot be read.
    """
    catalog, weights = catalog_.read_all(repo.objects), weights_.open_all(repo.packs)
    _refuse_unread([*catalog.unread, *weights.unread])
    live = _live_objects(repo, catalog, now, grace)
    _choose_copies(repo, weights, live)
    files, kept, freed = _files(repo, weights, live)
    repacks, joins = _rewritten(kept)
    freed += sum(pack.freed for pack in chain(repacks, *joins))
    dead = catalog.known.keys() | catalog.bad.keys()
    unfinished = tuple(_unfinished(repo, catalog))
    phases = tuple(_phases(catalog, dead - live.objects))
    deleted = [repo.objects.path(name) for phase in phases for name in phase]
    return GcPlan(
        phases=phases,
        files=files,
        repacks=repacks,
        joins=joins,
        unfinished=unfinished,
        freed=freed + sum(map(size_of, [*deleted, *unfinished])),
        kept_objects=len(live.objects),
        kept_bytes=sum(c.stored.stored for c in map(weights.copies.get, live.copies) if c and not c.volume.is_outside),
        notes=tuple(f"packs/{name} was left alone: {why}" for name, why in sorted(weights.unreadable.items())),
    )


def _refuse_unread(sentences: list[str]) -> None:
    """Raise Storage if a file or folder cannot be read: what it needs is unknown, and may be all of it."""
    if sentences:
        raise Storage(sentences[0], "Nothing was deleted. Make it readable for you, then run 'persona gc' again.")


def _live_objects(repo: RepositoryFiles, catalog: Catalog, now: datetime, grace: timedelta) -> _Live:
    operations = catalog.of_kind("operation")
    roots = roots_.named_by_files(repo.folder) | roots_.named_by_recipe(repo.recipe)
    young = roots_.remembered(catalog, roots_.read(repo.folder, repo.version).operation, now, grace)
    certain = catalog.reach({*catalog.named(roots), *operations})
    objects = certain | catalog.reach(catalog.named(young)) | {n for n, k in catalog.known.items() if k.newer}
    _refuse_damage(repo, catalog, certain, objects, roots | young)
    named = set(roots)
    for name in objects:
        entry = catalog.known[name]
        named |= entry.references.ids | _mentions(entry)
    return _Live(objects, named)


def _mentions(entry: CatalogEntry) -> frozenset[str]:
    """Return what an object keeps besides its references; an operation keeps only while it is young."""
    return entry.others if entry.kind != "operation" else frozenset()


def _refuse_damage(
    repo: RepositoryFiles, catalog: Catalog, certain: set[ObjectId], objects: set[ObjectId], roots: Iterable[str]
) -> None:
    """Raise Damaged if a needed object is: its references are unknown, and deleting it would make the loss final."""
    needed = {name: kind for owner in objects for name, kind in catalog.known[owner].references.objects}
    texts = {*roots, *(t for owner in objects for t in _mentions(catalog.known[owner]))} if catalog.bad else set()
    bad = [name for name in catalog.bad if name in needed or any(map(name.startswith, texts))]
    missing = [n for owner in certain for n, _ in catalog.known[owner].references.objects if n not in catalog.known]
    missing += [ObjectId(name) for name in _pointed_at(repo) if name not in catalog.known]
    for name in sorted({*bad, *missing}):
        raise Damaged(
            f"{needed.get(name, 'object')} {name.short} is damaged or missing, so its references are unknown",
            "Nothing was deleted. Run 'persona fsck' to list all damage; gc works again once it is repaired.",
        )


def _pointed_at(repo: RepositoryFiles) -> Iterator[str]:
    """Yield what refs and the log point at."""
    roots = roots_.read(repo.folder, repo.version)
    if roots.problems:
        raise Damaged(roots.problems[0], "Nothing was deleted. Fix this first; 'persona fsck' lists all problems.")
    yield from roots.commits.values()
    if roots.operation is not None:
        yield roots.operation


def _phases(catalog: Catalog, dead: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, ...]]:
    """Yield objects to delete: damaged ones and unknown kinds, then commits (children first), texts, recipes, …, bases."""
    by_kind: dict[str, list[ObjectId]] = defaultdict(list)
    for name in sorted(dead):
        entry = catalog.known.get(name)
        kind = entry.kind if entry and entry.kind in DELETION_ORDER else ""
        by_kind[kind].append(name)
    by_kind["commit"] = catalog.children_first(by_kind["commit"])
    yield from (tuple(by_kind[kind]) for kind in ("", "commit", "text", "fisher") if by_kind[kind])
    yield from _referring_first(catalog, {*by_kind["recipe"], *by_kind["vector"]})
    yield from (tuple(by_kind[kind]) for kind in ("readout", "base", "graph", "node", "evaluation") if by_kind[kind])


def _referring_first(catalog: Catalog, left: set[ObjectId]) -> Iterator[tuple[ObjectId, ...]]:
    """Yield recipes, their vectors, the recipes and vectors that those were made from, and so on."""
    while left:
        needed = {other for name in left for other, _ in catalog.known[name].references.objects}
        yield tuple(sorted(left - needed))
        left = left & needed


def _choose_copies(repo: RepositoryFiles, weights: Weights, live: _Live) -> None:
    """Choose one copy of everything that is named, then full copies of the tensors that those are deltas of."""
    store = TensorStore(repo.packs, repo.tmp, frozenset(weights.unreadable))
    holders = weights.holders()
    for name in sorted(live.named & holders.keys(), key=lambda name: (len(holders[name]), name)):
        live.copies.update(_chosen(weights, store, [(file, name) for file in holders[name]], live))
    bases = {copy.base for key in live.copies if (copy := weights.copies[key]).base is not None}
    for base in sorted(bases & holders.keys()):
        whole: list[Key] = [(file, base) for file in holders[base] if weights.copies[(file, base)].base is None]
        live.copies.update(_chosen(weights, store, whole, live))


def _chosen(weights: Weights, store: TensorStore, keys: list[Key], live: _Live) -> list[Key]:
    """Return the copy to keep out of several; all of them, unless one is known to be good."""
    busy = {file for file, _ in live.copies} if len(keys) > 1 else set()
    keys = sorted(keys, key=lambda key: (*_preference(weights.copies[key], key[0] in busy), key[0]))
    for key in keys if len(keys) > 1 else ():
        weights_.check(weights, store, {key: weights.copies[key]}, SILENT)
        if key not in weights.bad:
            return [key]
    return keys


def _preference(copy: Copy, busy: bool) -> tuple[bool, bool, bool, bool, int]:
    path = copy.volume.path
    return copy.base is not None, copy.volume.is_outside, not busy, path.suffix == ".pack", size_of(path)


def _files(repo: RepositoryFiles, weights: Weights, live: _Live) -> tuple[tuple[Path, ...], list[Repack], int]:
    """Return files without live content, what is live in the other packs, and the bytes of those files."""
    deleted = [repo.packs / name for name in weights.loose if name.endswith(".safetensors") or ".tmp-" in name]
    kept, freed = [], sum(map(size_of, deleted))
    for name, volume in sorted(weights.files.items()):
        parts = {n: weights.copies[(name, n)].stored.stored for n in (*volume.tensors, *volume.blobs)}
        wanted = frozenset(n for n in parts if (name, n) in live.copies)
        if not wanted:
            deleted += _paths(volume)
            freed += sum(map(size_of, _paths(volume)))
        elif name.endswith(".pack"):
            kept.append(Repack(volume, wanted, sum(parts[n] for n in parts.keys() - wanted)))
    return tuple(deleted), kept, freed


def _rewritten(kept: list[Repack]) -> tuple[tuple[Repack, ...], tuple[tuple[Repack, ...], ...]]:
    """Return packs with little live content, and small ones to join."""
    joins = groups(kept)
    joined = {pack.volume.path for group in joins for pack in group}
    dead = [pack for pack in kept if pack.alive < MOSTLY_DEAD * (pack.alive + pack.freed)]
    return tuple(pack for pack in dead if pack.volume.path not in joined), joins


def _paths(volume: Volume) -> list[Path]:
    """Return a file's index and, if it is another file of the store, its data, in the order of deletion."""
    return [volume.index] if volume.path == volume.index or volume.is_outside else [volume.index, volume.path]


def _unfinished(repo: RepositoryFiles, catalog: Catalog) -> Iterator[Path]:
    """Yield temporary files of killed commands; since this one holds the lock, no other is running."""
    if repo.tmp.is_dir():
        yield from sorted(repo.tmp.iterdir())
    yield from (path for path in catalog.strays if catalog_.TEMPORARY in path.name)
    for folder in (repo.folder, *(repo.folder / name for name in ("op", "refs", "evaluations"))):
        paths = below(folder) if folder.name in ("refs", "evaluations") else folder.glob(".*")
        yield from sorted(path for path in paths if path.is_file() and catalog_.TEMPORARY in path.name)
    yield from sorted(path for path in repo.folder.parent.glob(".persona.*") if _LEFTOVER.fullmatch(path.name))


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes; 0 if it does not exist."""
    try:
        return sum(size_of(child) for child in path.iterdir()) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0
