"""What ``gc`` would do, as pure data: which objects go, which files go, and which packs are written anew.

Live is what can be reached from any id in the small files of ``.persona``, from the recipe as it stands, and from
what operations within the grace period name, before and after; operation objects always stay. A live difference
keeps the tensor that it differs from.

A tensor may lie in several files, as after a collection that was killed. One copy is kept: whole before difference,
in the store before outside of it, in a file that stays anyway, in a safetensors file before a pack, in a small pack
before a large one. It is decoded first, and if it is damaged the next one is taken, so that the last good copy is never
given up for a bad one.

A file outside that the store only refers to is its user's: nothing here ever names it, only the list that leads to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from persona.errors import Damaged
from persona.ids import ObjectId
from persona.maintenance import catalog as catalog_
from persona.maintenance import roots as roots_
from persona.maintenance import weights as weights_
from persona.maintenance.catalog import Catalog
from persona.maintenance.check import RepositoryFiles
from persona.maintenance.weights import Copy, Key, Weights
from persona.progress import SILENT
from persona.store.packs import Volume
from persona.store.tensors import TensorStore

MOSTLY_DEAD = 0.5
"""A pack of whose stored bytes a smaller share is live is written anew."""

LEAVES_LAST = ("commit", "text", "fisher", "recipe", "vector", "readout", "base", "graph", "node", "evaluation")
"""Kinds in the order in which they go: who refers before who is referred to. A baked vector refers to a recipe,
a derived one to vectors."""


_BESIDE = re.compile(r"\.persona(\.toml)?\.tmp-[0-9a-f]{12}(\.replaced)?")
"""What a killed command may leave beside a ``.persona``."""


@dataclass(frozen=True)
class Repack:
    """A pack, and what of it stays."""

    volume: Volume
    wanted: frozenset[str]
    freed: int


@dataclass(frozen=True)
class GcPlan:
    """``phases`` are objects to delete, one phase after the other; ``files`` are whole packs and safetensors files."""

    phases: tuple[tuple[ObjectId, ...], ...] = ()
    files: tuple[Path, ...] = ()
    repacks: tuple[Repack, ...] = ()
    unfinished: tuple[Path, ...] = ()
    freed: int = 0
    kept_objects: int = 0
    kept_bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Live:
    """Objects that stay, every id that they name, and the copies of tensors and blobs that stay."""

    objects: set[ObjectId]
    named: set[str]
    copies: set[Key] = field(default_factory=set)


def plan(place: RepositoryFiles, now: datetime, grace: timedelta) -> GcPlan:
    """Find out what may go; Damaged if what is there does not suffice to know."""
    catalog = catalog_.read_all(place.objects)
    live = _live_objects(place, catalog, now, grace)
    weights = weights_.open_all(place.packs)
    _choose_copies(place, weights, live)
    files, repacks, freed = _files(place, weights, live)
    dead = catalog.known.keys() | catalog.bad.keys()
    unfinished = tuple(_unfinished(place, catalog))
    phases = tuple(_phases(catalog, dead - live.objects))
    gone = [place.objects.path(name) for phase in phases for name in phase]
    return GcPlan(
        phases=phases,
        files=files,
        repacks=repacks,
        unfinished=unfinished,
        freed=freed + sum(map(size_of, [*gone, *unfinished])),
        kept_objects=len(live.objects),
        kept_bytes=sum(c.stored.stored for c in map(weights.copies.get, live.copies) if c and not c.volume.is_outside),
        notes=tuple(f"packs/{name} was left alone: {why}" for name, why in sorted(weights.unreadable.items())),
    )


def _live_objects(place: RepositoryFiles, catalog: Catalog, now: datetime, grace: timedelta) -> _Live:
    operations = catalog.of_kind("operation")
    roots = roots_.named_by_files(place.folder) | roots_.named_by_recipe(place.recipe)
    young = roots_.remembered(catalog, now, grace)
    certain = catalog.reach({*catalog.named(roots), *operations})
    objects = certain | catalog.reach(catalog.named(young)) | {n for n, k in catalog.known.items() if k.newer}
    _refuse_damage(place, catalog, certain, objects, roots | young)
    named = set(roots)
    for name in objects:
        known = catalog.known[name]
        named |= known.edges.ids | (known.others if known.kind != "operation" else set())
    return _Live(objects, named)


def _refuse_damage(
    place: RepositoryFiles, catalog: Catalog, certain: set[ObjectId], objects: set[ObjectId], roots: Iterable[str]
) -> None:
    """What a damaged object names cannot be known, and deleting it would make the damage final."""
    needed = {name: kind for owner in objects for name, kind in catalog.known[owner].edges.objects}
    texts = {*roots, *(text for owner in objects for text in catalog.known[owner].others)} if catalog.bad else set()
    bad = [name for name in catalog.bad if name in needed or any(map(name.startswith, texts))]
    missing = [n for owner in certain for n, _ in catalog.known[owner].edges.objects if n not in catalog.known]
    missing += [ObjectId(name) for name in _pointed_at(place) if name not in catalog.known]
    for name in sorted({*bad, *missing}):
        raise Damaged(
            f"{needed.get(name, 'object')} {name.short} is damaged or missing, so what it needs cannot be known",
            "Nothing was deleted. 'persona fsck' names all that is damaged; gc works again when it is healed.",
        )


def _pointed_at(place: RepositoryFiles) -> Iterator[str]:
    """What refs and the log must lead to."""
    roots = roots_.read(place.folder, place.version)
    if roots.problems:
        raise Damaged(roots.problems[0], "Nothing was deleted. Mend it first; 'persona fsck' names all that is wrong.")
    yield from roots.commits.values()
    if roots.operation is not None:
        yield roots.operation


def _phases(catalog: Catalog, dead: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, ...]]:
    """Objects to delete: damaged ones and unknown kinds, then commits (children first), texts, recipes, …, bases."""
    by_kind: dict[str, list[ObjectId]] = {}
    for name in sorted(dead):
        known = catalog.known.get(name)
        kind = known.kind if known and known.kind in LEAVES_LAST else ""
        by_kind.setdefault(kind, []).append(name)
    yield from filter(None, [tuple(by_kind.get("", []))])
    yield from filter(None, [tuple(catalog.children_first(by_kind.get("commit", []))), tuple(by_kind.get("text", []))])
    yield from filter(None, [tuple(by_kind.get("fisher", []))])
    yield from _referring_first(catalog, {*by_kind.get("recipe", []), *by_kind.get("vector", [])})
    kinds = ("readout", "base", "graph", "node", "evaluation")
    yield from filter(None, [tuple(by_kind.get(kind, [])) for kind in kinds])


def _referring_first(catalog: Catalog, left: set[ObjectId]) -> Iterator[tuple[ObjectId, ...]]:
    """Recipes, their vectors, the recipes and vectors that those were made of, their vectors, and so on."""
    while left:
        needed = {other for name in left for other, _ in catalog.known[name].edges.objects}
        yield tuple(sorted(left - needed))
        left = left & needed


def _choose_copies(place: RepositoryFiles, weights: Weights, live: _Live) -> None:
    """One copy of everything that is named, then whole ones of the tensors that those are differences to."""
    store = TensorStore(place.packs, place.tmp, frozenset(weights.unreadable))
    holders = weights.holders()
    for name in sorted(live.named & holders.keys(), key=lambda name: (len(holders[name]), name)):
        live.copies.update(_chosen(weights, store, [(file, name) for file in holders[name]], live))
    bases = {copy.base for key in live.copies if (copy := weights.copies[key]).base is not None}
    for base in sorted(bases & holders.keys()):
        whole: list[Key] = [(file, base) for file in holders[base] if weights.copies[(file, base)].base is None]
        live.copies.update(_chosen(weights, store, whole, live))


def _chosen(weights: Weights, store: TensorStore, keys: list[Key], live: _Live) -> list[Key]:
    """Of several copies of one thing the one that stays: all, unless one is known to be good."""
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


def _files(place: RepositoryFiles, weights: Weights, live: _Live) -> tuple[tuple[Path, ...], tuple[Repack, ...], int]:
    """Files of which nothing is live, packs of which little is, and the bytes that both free."""
    gone = [place.packs / name for name in weights.loose if name.endswith(".safetensors") or ".tmp-" in name]
    repacks, freed = [], sum(map(size_of, gone))
    for name, volume in sorted(weights.files.items()):
        parts = {n: weights.copies[(name, n)].stored.stored for n in (*volume.tensors, *volume.blobs)}
        wanted = frozenset(n for n in parts if (name, n) in live.copies)
        alive, total = sum(parts[n] for n in wanted), sum(parts.values())
        if not wanted:
            gone += _paths(volume)
            freed += sum(map(size_of, _paths(volume)))
        elif name.endswith(".pack") and alive < MOSTLY_DEAD * total:
            repacks.append(Repack(volume, wanted, total - alive))
            freed += total - alive
    return tuple(gone), tuple(repacks), freed


def _paths(volume: Volume) -> list[Path]:
    """A file's index and, where that is another file of ours, the file: in the order in which they may go."""
    return [volume.index] if volume.path == volume.index or volume.is_outside else [volume.index, volume.path]


def _unfinished(place: RepositoryFiles, catalog: Catalog) -> Iterator[Path]:
    """Temporary files of commands that died: the lock says that none is at work."""
    if place.tmp.is_dir():
        yield from sorted(place.tmp.iterdir())
    yield from (path for path in catalog.strays if catalog_.TEMPORARY in path.name)
    for folder in (place.folder, *(place.folder / name for name in ("op", "refs", "evaluations"))):
        found = folder.rglob("*") if folder.name in ("refs", "evaluations") else folder.glob(".*")
        yield from sorted(path for path in found if path.is_file() and catalog_.TEMPORARY in path.name)
    yield from sorted(path for path in place.folder.parent.glob(".persona.*") if _BESIDE.fullmatch(path.name))


def size_of(path: Path) -> int:
    """Bytes of a file or of all files in a folder; 0 if it went."""
    try:
        return sum(size_of(child) for child in path.iterdir()) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0
