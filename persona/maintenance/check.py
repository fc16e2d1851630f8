"""The check behind ``fsck``: everything is read, and no problem ends it early."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona.errors import PersonaError
from persona.history.commits import Commit, get_text
from persona.history.operations import Operation
from persona.ids import CommitId, ObjectId, OperationId
from persona.maintenance import catalog as catalog_
from persona.maintenance import roots as roots_
from persona.maintenance import weights as weights_
from persona.maintenance.affected import Affected
from persona.maintenance.catalog import Catalog, CatalogEntry
from persona.maintenance.references import is_known
from persona.maintenance.report import CheckCounts, CheckReport, LostObject
from persona.maintenance.roots import Roots
from persona.maintenance.weights import Weights
from persona.progress import SILENT, Progress
from persona.recipe.agreement import disagreement
from persona.recipe.model import Recipe
from persona.store import lists
from persona.store.objects import ObjectStore
from persona.store.packs import Volume


@dataclass(frozen=True)
class RepositoryFiles:
    """The files of a repository: all that maintenance needs to know of it."""

    folder: Path
    version: str
    recipe: str | None = None

    @property
    def objects(self) -> ObjectStore:
        """The object store."""
        return ObjectStore(self.folder / "objects")

    @property
    def packs(self) -> Path:
        """The folder of tensors and blobs."""
        return self.folder / "packs"

    @property
    def tmp(self) -> Path:
        """The folder of unfinished files."""
        return self.folder / "tmp"


@dataclass
class Examination:
    """The findings of a check. ``needed`` are the tensors and blobs reachable from refs, log and recipe, by kind."""

    repo: RepositoryFiles
    roots: Roots
    catalog: Catalog
    weights: Weights
    reached: set[ObjectId]
    missing: dict[ObjectId, str] = field(default_factory=dict)
    needed: dict[str, str] = field(default_factory=dict)

    def lost_contents(self) -> dict[str, str]:
        """Return the needed tensors and blobs that have no good copy, with their kind."""
        good = self.weights.good()
        return {name: kind for name, kind in self.needed.items() if name not in good}


def check(repo: RepositoryFiles, progress: Progress = SILENT, share: float = 1.0, seed: int = 0) -> Examination:
    """Check everything.

    Args:
        share: Share of the tensors' bytes to read, from 0 to 1.
        seed: Random seed for choosing that share.
    """
    roots = roots_.read(repo.folder, repo.version)
    catalog = catalog_.read_all(repo.objects)
    _follow_pending(repo, roots, catalog)
    weights = weights_.read(repo.packs, progress, share, seed)
    reached = catalog.reach(_starts(repo, roots, catalog))
    exam = Examination(repo, roots, catalog, weights, reached)
    exam.missing = dict(_missing(exam))
    exam.needed = _needed(exam)
    if exam.lost_contents() or exam.missing:
        _forget_collected(exam)
    return exam


def _forget_collected(exam: Examination) -> None:
    """Drop what a concurrent ``gc`` deleted during the check, and what only that needed."""
    exam.reached = {name for name in exam.reached if name in exam.repo.objects}
    exam.missing, exam.needed = dict(_missing(exam)), _needed(exam)


def _needed(exam: Examination) -> dict[str, str]:
    """Return the tensors and blobs that reachable objects name, and the tensors that those are stored as deltas of."""
    needed: dict[str, str] = {}
    for name in sorted(exam.reached):
        references = exam.catalog.known[name].references
        needed |= dict.fromkeys(references.tensors, "tensor") | dict.fromkeys(references.blobs, "blob")
    copies = exam.weights.copies.items()
    others = set[str]().union(*(exam.catalog.known[name].others for name in exam.reached))
    needed |= {name: copy.kind for (_, name), copy in copies if name in others}
    return needed | {copy.base: "tensor" for (_, name), copy in copies if copy.base is not None and name in needed}


def _follow_pending(repo: RepositoryFiles, roots: Roots, catalog: Catalog) -> None:
    """Count the refs of an operation that was not applied yet, as every reader does."""
    if roots.operation is not None and not roots.applied:
        try:
            roots_.follow(roots, Operation.get(repo.objects, OperationId(roots.operation)).refs)
        except PersonaError as error:
            if roots.operation in catalog.known:  # otherwise it is reported as lost
                roots.problems.append(error.message)


def _starts(repo: RepositoryFiles, roots: Roots, catalog: Catalog) -> set[str]:
    """Return what reachability starts from: refs, the log and all that it mentions, and the current recipe."""
    starts: set[str] = {*roots.commits.values(), *catalog.of_kind("operation")}
    remembered = roots_.mentioned(catalog, catalog.of_kind("operation"))
    current = roots_.named_by_recipe(repo.recipe)
    with contextlib.suppress(PersonaError):  # reported by roots.read
        current |= roots_.named_by_files(repo.folder)
    return starts | catalog.named(remembered | current)


def _missing(exam: Examination) -> Iterator[tuple[ObjectId, str]]:
    """Yield the needed objects that cannot be read, with the kind that they should have."""
    wanted: list[tuple[ObjectId, str]] = [(name, "commit") for name in exam.roots.commits.values()]
    wanted += [(name, "evaluation") for name in exam.roots.evaluations.values()]
    if exam.roots.operation is not None:
        wanted.append((exam.roots.operation, "operation"))
    for name in exam.reached:
        wanted += exam.catalog.known[name].references.objects
    for name, kind in wanted:
        entry = exam.catalog.known.get(name)
        if entry is None or (entry.kind != kind and is_known(entry.kind)):
            yield name, kind


def _disagreements(exam: Examination) -> Iterator[str]:
    """Yield what is wrong with commits whose text and recipe contradict each other."""
    objects, known = exam.repo.objects, set[tuple[ObjectId, ObjectId]]()
    for name in sorted(exam.reached):
        if exam.catalog.known[name].kind != "commit":
            continue
        with contextlib.suppress(PersonaError):  # what cannot be read is reported as such
            commit = Commit.get(objects, CommitId(name))
            pair = commit.text, commit.recipe
            if pair not in known:
                text, recipe = get_text(objects, commit.text), Recipe.get(objects, commit.recipe)
                problem = disagreement(CommitId(name), text, recipe)
                if problem is None:
                    known.add(pair)
                else:
                    yield problem.message


def conclude(exam: Examination, share: float = 1.0, seed: int = 0, healed: tuple[str, ...] = ()) -> CheckReport:
    """Summarize a check; ``healed`` are sentences about what was repaired."""
    affected = Affected(exam.repo.objects, exam.catalog, exam.reached)
    outside = tuple(str(file.path) for file in lists.all_outside(exam.repo.packs))
    return CheckReport(
        counts=_counts(exam),
        lost=(*_lost_objects(exam, affected), *_lost_contents(exam, affected)),
        problems=tuple(_problems(exam)),
        notes=tuple(_notes(exam)),
        sample=share,
        seed=seed,
        healed=healed,
        outside=outside,
        self_contained=not outside,
    )


def _counts(exam: Examination) -> CheckCounts:
    weights = exam.weights
    tensors = [key for key, copy in weights.copies.items() if copy.kind == "tensor"]
    return CheckCounts(
        refs=len(exam.roots.commits),
        operations=len(exam.catalog.of_kind("operation")),
        objects=len(exam.catalog.known) + len(exam.catalog.bad),
        files=len(weights.files) + len(weights.unreadable),
        tensors=len(tensors),
        tensors_read=sum(key in weights.read for key in tensors),
        blobs=len(weights.copies) - len(tensors),
        bytes_read=sum(weights.copies[key].plain for key in weights.read),
        bytes_all=sum(copy.plain for copy in weights.copies.values()),
    )


def _lost_objects(exam: Examination, affected: Affected) -> Iterator[LostObject]:
    for name, kind in sorted(exam.missing.items(), key=lambda item: (item[1], item[0])):
        entry = exam.catalog.known.get(name)
        why = exam.catalog.bad.get(name) or (f"it is a {entry.kind}" if entry else "it is missing")
        refs = sorted(ref for ref, commit in exam.roots.commits.items() if commit == name)
        why += f"; {', '.join(refs)} points at it" if refs else ""
        if kind == "evaluation":
            why += "; measure again (persona eval), or delete the file in evaluations/ that names it"
        if kind == "text" and any((name, kind) in known.references.objects for known in _evaluations(exam)):
            why += "; it keeps replies of an evaluation: persona eval --replies makes them again"
        yield LostObject(kind, name, why, (), affected.commits(name), affected.vectors(name))


def _evaluations(exam: Examination) -> Iterator[CatalogEntry]:
    return (exam.catalog.known[name] for name in exam.catalog.of_kind("evaluation"))


def _lost_contents(exam: Examination, affected: Affected) -> Iterator[LostObject]:
    weights, holders = exam.weights, exam.weights.holders()
    for name, kind in sorted(exam.lost_contents().items(), key=lambda item: (item[1], item[0])):
        keys = [(file, name) for file in holders.get(name, [])]
        reasons = [(weights.waiting | weights.bad).get(key) or weights.unreadable.get(key[0], "") for key in keys]
        files = tuple(_name(weights.files[file]) for file, _ in keys)
        beside = weights.unreadable.get(weights.listed.get(name, ""), "no readable file holds it")
        why = reasons[0] if reasons else f"it is missing: {beside}"
        yield LostObject(kind, name, why, files, affected.commits(name), affected.vectors(name))


def _problems(exam: Examination) -> Iterator[str]:
    """Yield faults that have not lost anything that is needed."""
    weights, lost = exam.weights, exam.lost_contents()
    yield from exam.roots.problems
    yield from _disagreements(exam)
    yield from (f"{text}: it was not checked" for text in exam.catalog.unread)
    for name, why in sorted(weights.unreadable.items()):
        yield f"packs/{name} cannot be used: {why}"
    reported = {file for file, name in weights.bad if name in exam.needed}
    for file, why in sorted(weights.altered.items()):
        if file not in reported and _is_used(exam, file):
            yield f"{weights.files[file].label} is altered: {why}"
    for file, name in sorted(weights.bad):
        if name in exam.needed and name not in lost:
            yield f"packs/{file} has a damaged copy of {exam.needed[name]} {name}; another copy is good"


def _notes(exam: Examination) -> Iterator[str]:
    """Yield what is not a fault: leftovers, and objects of a newer persona."""
    catalog, weights = exam.catalog, exam.weights
    idle = set(catalog.known) - exam.reached
    if idle:
        yield f"{_count(len(idle), 'unreferenced object')} (persona gc deletes them)"
    spare = {name for _, name in weights.copies if name not in exam.needed}
    if spare:
        nbytes = sum(copy.stored.stored for key, copy in weights.copies.items() if key[1] in spare)
        yield f"{_count(len(spare), 'unreferenced tensor or blob', 'unreferenced tensors and blobs')}, {nbytes:,} bytes"
    for damaged in sorted(set(catalog.bad) - set(exam.missing)):
        yield f"object {damaged.short} is damaged, but nothing refers to it"
    for file, name in sorted({*weights.bad, *weights.waiting}):
        if name not in exam.needed:
            yield f"packs/{file}: {name[:12]} is damaged, but nothing refers to it"
    for file in sorted(weights.altered):
        if not _is_used(exam, file):
            yield f"{weights.files[file].label} is altered, but nothing refers to its contents"
    newer = [name for name, entry in catalog.known.items() if entry.newer or not is_known(entry.kind)]
    if newer:
        yield f"{_count(len(newer), 'object')} of a newer persona: only the hash was checked"
    for path in [*catalog.strays, *(exam.repo.packs / name for name in weights.loose)]:
        yield f"{path.relative_to(exam.repo.folder)} is not part of the store{_advice(path)}"


def _name(volume: Volume) -> str:
    return str(volume.path) if volume.is_outside else volume.path.name


def _is_used(exam: Examination, file: str) -> bool:
    volume = exam.weights.files[file]
    return not exam.needed.keys().isdisjoint({*volume.tensors, *volume.blobs})


def _advice(path: Path) -> str:
    if path.name.endswith(weights_.SET_ASIDE):
        return ": a repair set it aside"
    return " (persona gc deletes it)" if catalog_.TEMPORARY in path.name or path.suffix == ".safetensors" else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
