"""The examination behind ``fsck``: everything is looked at, and nothing stops at the first problem."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from persona.errors import PersonaError
from persona.history.operations import Operation
from persona.ids import ObjectId, OperationId
from persona.maintenance import catalog as catalog_
from persona.maintenance import roots as roots_
from persona.maintenance import weights as weights_
from persona.maintenance.affected import Affected
from persona.maintenance.catalog import Catalog
from persona.maintenance.references import is_known
from persona.maintenance.report import CheckCounts, CheckReport, LostObject
from persona.maintenance.roots import Roots
from persona.maintenance.weights import Weights
from persona.progress import SILENT, Progress
from persona.store import lists
from persona.store.objects import ObjectStore
from persona.store.packs import Volume

_ALWAYS = timedelta(days=365_000)


@dataclass(frozen=True)
class RepositoryFiles:
    """A repository, as far as keeping needs to know it."""

    folder: Path
    version: str
    recipe: str | None = None

    @property
    def objects(self) -> ObjectStore:
        """Its objects."""
        return ObjectStore(self.folder / "objects")

    @property
    def packs(self) -> Path:
        """Its tensors and blobs."""
        return self.folder / "packs"

    @property
    def tmp(self) -> Path:
        """Where its unfinished files are."""
        return self.folder / "tmp"


@dataclass
class Examination:
    """Everything that was found. ``needed`` is what can be reached from refs, log and recipe, by kind."""

    place: RepositoryFiles
    roots: Roots
    catalog: Catalog
    weights: Weights
    reached: set[ObjectId]
    missing: dict[ObjectId, str] = field(default_factory=dict)
    needed: dict[str, str] = field(default_factory=dict)

    def lost_contents(self) -> dict[str, str]:
        """Tensors and blobs that are needed and of which there is no good copy, with their kind."""
        good = self.weights.good()
        return {name: kind for name, kind in self.needed.items() if name not in good}


def check(place: RepositoryFiles, progress: Progress = SILENT, share: float = 1.0, seed: int = 0) -> Examination:
    """Look at everything."""
    roots = roots_.read(place.folder, place.version)
    catalog = catalog_.read_all(place.objects)
    _carry_on(place, roots)
    weights = weights_.read(place.packs, progress, share, seed)
    reached = catalog.reach(_starts(place, roots, catalog))
    found = Examination(place, roots, catalog, weights, reached)
    found.missing = dict(_missing(found))
    found.needed = _needed(found)
    if found.lost_contents() or found.missing:
        _forget_collected(found)
    return found


def _forget_collected(found: Examination) -> None:
    """A collection may have run meanwhile: what it deleted needs nothing any more."""
    found.reached = {name for name in found.reached if name in found.place.objects}
    found.missing, found.needed = dict(_missing(found)), _needed(found)


def _needed(found: Examination) -> dict[str, str]:
    """Tensors and blobs that reachable objects name, and the tensors that those are differences to."""
    needed: dict[str, str] = {}
    for name in sorted(found.reached):
        own = found.catalog.known[name].edges
        needed |= dict.fromkeys(own.tensors, "tensor") | dict.fromkeys(own.blobs, "blob")
    copies = found.weights.copies.items()
    others = set[str]().union(*(found.catalog.known[name].others for name in found.reached))
    needed |= {name: copy.kind for (_, name), copy in copies if name in others}
    return needed | {copy.base: "tensor" for (_, name), copy in copies if copy.base is not None and name in needed}


def _carry_on(place: RepositoryFiles, roots: Roots) -> None:
    """An operation that refs have not followed yet counts, as it does for every reader."""
    if roots.operation is not None and not roots.applied:
        with contextlib.suppress(PersonaError, ValueError):  # what is wrong with it is said elsewhere
            roots_.follow(roots, Operation.get(place.objects, OperationId(roots.operation)).refs)


def _starts(place: RepositoryFiles, roots: Roots, catalog: Catalog) -> set[str]:
    """Refs, the log and all that it remembers, and the recipe as it stands."""
    starts: set[str] = {*roots.commits.values(), *catalog.of_kind("operation")}
    remembered = roots_.remembered(catalog, datetime.now(UTC), _ALWAYS)
    standing = roots_.named_by_recipe(place.recipe)
    with contextlib.suppress(PersonaError):  # what cannot be read of them is said elsewhere
        standing |= roots_.named_by_files(place.folder)
    return starts | catalog.named(remembered | standing)


def _missing(found: Examination) -> Iterator[tuple[ObjectId, str]]:
    """Objects that are needed and cannot be read, with the kind that they must have."""
    wanted: list[tuple[ObjectId, str]] = [(name, "commit") for name in found.roots.commits.values()]
    wanted += [(name, "evaluation") for name in found.roots.evaluations.values()]
    if found.roots.operation is not None:
        wanted.append((found.roots.operation, "operation"))
    for name in found.reached:
        wanted += found.catalog.known[name].edges.objects
    for name, kind in wanted:
        known = found.catalog.known.get(name)
        if known is None or (known.kind != kind and is_known(known.kind)):
            yield name, kind


def conclude(found: Examination, share: float = 1.0, seed: int = 0, healed: tuple[str, ...] = ()) -> CheckReport:
    """What the examination says to a person."""
    blame = Affected(found.place.objects, found.catalog, found.reached)
    lost = [*_lost_objects(found, blame), *_lost_contents(found, blame)]
    outside = tuple(str(one.path) for one in lists.all_outside(found.place.packs))
    return CheckReport(
        counts=_counts(found),
        lost=tuple(lost),
        problems=tuple(_problems(found)),
        notes=tuple(_notes(found)),
        sample=share,
        seed=seed,
        healed=healed,
        outside=outside,
        self_contained=not outside,
    )


def _counts(found: Examination) -> CheckCounts:
    weights = found.weights
    tensors = [key for key, copy in weights.copies.items() if copy.kind == "tensor"]
    return CheckCounts(
        refs=len(found.roots.commits),
        operations=len(found.catalog.of_kind("operation")),
        objects=len(found.catalog.known) + len(found.catalog.bad),
        files=len(weights.files) + len(weights.unreadable),
        tensors=len(tensors),
        tensors_read=sum(key in weights.read for key in tensors),
        blobs=len(weights.copies) - len(tensors),
        bytes_read=sum(weights.copies[key].plain for key in weights.read),
        bytes_all=sum(copy.plain for copy in weights.copies.values()),
    )


def _lost_objects(found: Examination, blame: Affected) -> Iterator[LostObject]:
    for name, kind in sorted(found.missing.items(), key=lambda item: (item[1], item[0])):
        known = found.catalog.known.get(name)
        why = found.catalog.bad.get(name) or (f"it is a {known.kind}" if known else "it is missing")
        refs = sorted(ref for ref, commit in found.roots.commits.items() if commit == name)
        why += f"; {', '.join(refs)} points at it" if refs else ""
        why += "; measure again (persona eval), or delete the file in evaluations/ that names it" * (
            kind == "evaluation"
        )
        yield LostObject(kind, name, why, (), blame.commits(name), blame.vectors(name))


def _lost_contents(found: Examination, blame: Affected) -> Iterator[LostObject]:
    weights, holders = found.weights, found.weights.holders()
    for name, kind in sorted(found.lost_contents().items(), key=lambda item: (item[1], item[0])):
        keys = [(file, name) for file in holders.get(name, [])]
        reasons = [(weights.waiting | weights.bad).get(key) or weights.unreadable.get(key[0], "") for key in keys]
        files = tuple(_name(weights.files[file]) for file, _ in keys)
        beside = weights.unreadable.get(weights.listed.get(name, ""), "no readable file holds it")
        why = reasons[0] if reasons else f"it is missing: {beside}"
        yield LostObject(kind, name, why, files, blame.commits(name), blame.vectors(name))


def _problems(found: Examination) -> Iterator[str]:
    """Faults that are not the loss of something that is needed."""
    weights, lost = found.weights, found.lost_contents()
    yield from found.roots.problems
    for name, why in sorted(weights.unreadable.items()):
        yield f"packs/{name} cannot be used: {why}"
    told = {file for file, name in weights.bad if name in found.needed}
    for file, why in sorted(weights.altered.items()):
        if file not in told and _is_used(found, file):
            yield f"{weights.files[file].label} is altered: {why}"
    for file, name in sorted(weights.bad):
        if name in found.needed and name not in lost:
            yield f"packs/{file} holds a damaged copy of {found.needed[name]} {name}; another copy is whole"


def _notes(found: Examination) -> Iterator[str]:
    """What is no fault: leftovers, and what a newer persona wrote."""
    catalog, weights = found.catalog, found.weights
    idle = set(catalog.known) - found.reached
    if idle:
        yield f"{_count(len(idle), 'object')} that nothing refers to (persona gc removes them)"
    spare = {name for _, name in weights.copies if name not in found.needed}
    if spare:
        nbytes = sum(copy.stored.stored for key, copy in weights.copies.items() if key[1] in spare)
        yield f"{_count(len(spare), 'tensor or blob', 'tensors and blobs')} that nothing refers to, {nbytes:,} bytes"
    yield from (f"object {name.short} is damaged, and nothing refers to it" for name in _idle(catalog.bad, found))
    for file, name in sorted({*weights.bad, *weights.waiting}):
        if name not in found.needed:
            yield f"packs/{file}: {name[:12]} is damaged, and nothing refers to it"
    for file in sorted(weights.altered):
        if not _is_used(found, file):
            yield f"{weights.files[file].label} is altered, and nothing refers to what it holds"
    newer = [name for name, known in catalog.known.items() if known.newer or not is_known(known.kind)]
    if newer:
        yield f"{_count(len(newer), 'object')} of a newer persona: only hashed"
    for path in [*catalog.strays, *(found.place.packs / name for name in weights.loose)]:
        yield f"{path.relative_to(found.place.folder)} is no part of the store{_advice(path)}"


def _name(volume: Volume) -> str:
    return str(volume.path) if volume.is_outside else volume.path.name


def _is_used(found: Examination, file: str) -> bool:
    volume = found.weights.files[file]
    return not found.needed.keys().isdisjoint({*volume.tensors, *volume.blobs})


def _idle(names: Iterable[ObjectId], found: Examination) -> list[ObjectId]:
    return sorted(set(names) - set(found.missing))


def _advice(path: Path) -> str:
    if path.name.endswith(weights_.SET_ASIDE):
        return ": a repair set it aside"
    return " (persona gc removes it)" if catalog_.TEMPORARY in path.name or path.suffix == ".safetensors" else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
