"""Repair from an original checkpoint: store again what is damaged or missing and what the checkpoint has.

Nothing is removed before its replacement is durable. While this runs, files with a fault are not read by the store:
their good parts are copied, lost parts that the checkpoint has are stored again, and a file is deleted once everything
needed from it is elsewhere. If some of it is still lost, the file is renamed instead, in case someone can use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona import files
from persona.checkpoints.adapters.ties import CHOICES
from persona.checkpoints.computed import Computed
from persona.checkpoints.folder import Checkpoint
from persona.checkpoints.tensorfile import TensorFile, TensorInfo, TensorSource
from persona.errors import PersonaError, Storage
from persona.ids import BaseId, BlobId, TensorId, VectorId, tensor_id
from persona.maintenance.check import Examination
from persona.maintenance.repack import copy_frames
from persona.maintenance.sources import RepairSource
from persona.maintenance.weights import SET_ASIDE, digest_of
from persona.progress import SILENT, Progress
from persona.store import kept, lists
from persona.store.ingest import under_base
from persona.store.ingest_adapter import checked_adapter, ingest_adapter, tensor_ids
from persona.store.ingest_files import base_config
from persona.store.nouns import Base, Vector
from persona.store.packs import Volume
from persona.store.packwriter import Incoming
from persona.store.padding import padded
from persona.store.tensors import TensorStore

Places = dict[TensorId, tuple[TensorSource, TensorInfo]]
"""Where tensors are read from."""


@dataclass
class Repair:
    """One round of repair; ``rewritten`` are the names of the indexes of files that were replaced as a whole."""

    exam: Examination
    source: RepairSource
    progress: Progress
    done: list[str] = field(default_factory=list)
    rewritten: set[str] = field(default_factory=set)

    @property
    def suspect(self) -> set[str]:
        """Files with a fault that were not rewritten, by the name of their index."""
        return self.exam.weights.suspect() - self.rewritten

    def store(self) -> TensorStore:
        """Return the store without the suspect files."""
        repo = self.exam.repo
        return TensorStore(repo.packs, repo.tmp, frozenset(self.suspect))


def repair_contents(exam: Examination, source: RepairSource, progress: Progress) -> list[str]:
    """Repair tensors, blobs and the files that hold them; return sentences about what was done."""
    repair = Repair(exam, source, progress)
    _rewrite_kept(repair)
    store = repair.store()
    _store_lost(repair, store)
    _store_converted(repair, store)
    _store_adapter(repair, store)
    for name in sorted(repair.suspect):
        _replace(repair, store, name)
    return repair.done


def _rewrite_kept(repair: Repair) -> None:
    """Store safetensors files again whose exact bytes are available: in the checkpoint, or beside a damaged list."""
    repo, weights = repair.exam.repo, repair.exam.weights
    wanted = {Path(name).stem for name in weights.suspect() if name.endswith(".json")}
    if repair.exam.lost_contents():
        wanted |= {Path(name).stem for name in weights.loose if name.endswith(".safetensors")}
    origins: dict[str, Path] = {}
    for stem in sorted(wanted):
        data = repo.packs / f"{stem}.safetensors"
        if data.exists() and digest_of(data) == stem:
            origins[stem] = data
        elif stem in repair.source.digests:
            origins[stem] = repair.source.digests[stem].path
    for file in repair.source.files:
        if file.path not in origins.values() and _mostly_lost(repair, file):
            origins[file.path.name] = file.path
    for origin in origins.values():
        _adopt(repair, origin)


def _mostly_lost(repair: Repair, file: TensorFile) -> bool:
    """Whether most of a file belonged to a base and is lost, so that the file is best stored as it is."""
    if repair.source.checkpoint is None:
        return False
    lost = repair.exam.lost_contents().keys() & _base_tensors(repair.exam)
    ids = repair.source.ids
    gone = sum(info.nbytes for info in file.tensors.values() if ids[info.name] in lost)
    return gone * 2 > sum(info.nbytes for info in file.tensors.values())


def _base_tensors(exam: Examination) -> set[str]:
    bases = (name for name in exam.reached if exam.catalog.known[name].kind == "base")
    return {tensor for base in bases for tensor in exam.catalog.known[base].references.tensors}


def _adopt(repair: Repair, origin: Path) -> None:
    """Store a file again; a repository that only refers to its base's files gets a new reference instead."""
    repo = repair.exam.repo
    refer = origin.parent != repo.packs and bool(lists.all_outside(repo.packs))
    keep: kept.Keep = "reference" if refer else "copy"
    with repair.progress.task("storing a file again", origin.stat().st_size) as task:
        adopted = kept.adopt(origin, repo.packs, repo.tmp, task, keep=keep, again=True)
    repair.rewritten.add(f"{Path(adopted.name).stem}.json")
    repair.done.append(
        f"{origin.resolve()} is now referred to" if refer else f"packs/{adopted.name} was stored again in full"
    )


def _replace(repair: Repair, store: TensorStore, name: str) -> None:
    """Take a suspect file out of use, unless none of what it lost was recovered."""
    exam = repair.exam
    volume = exam.weights.files.get(name)
    if volume is None or name in exam.weights.unreadable:
        _retire(repair, store, name, set(exam.needed), aside=False)
        return
    needed = _needed_of(exam, volume)
    lost = needed & exam.lost_contents().keys()
    if not lost or any(_has(store, part) for part in lost):
        _salvage(repair, store, name, volume, needed)
        _retire(repair, store, name, needed, aside=True)


def _salvage(repair: Repair, store: TensorStore, name: str, volume: Volume, needed: set[str]) -> None:
    """Copy the parts of a suspect file that are good, or may be once their base is repaired, and exist nowhere else."""
    bad = repair.exam.weights.bad
    wanted = {part for part in needed if (name, part) not in bad and not _has(store, part)}
    if not wanted:
        return
    if name.endswith(".pack"):
        copy_frames([(volume, wanted)], store.packs, store.tmp)
    else:
        _copy_kept(volume, wanted, store)
    repair.done.append(f"{len(wanted)} good part(s) of {volume.label} were copied")


def _needed_of(exam: Examination, volume: Volume) -> set[str]:
    return exam.needed.keys() & {*volume.tensors, *volume.blobs}


def _has(store: TensorStore, name: str) -> bool:
    return TensorId(name) in store or store.has_blob(BlobId(name))


def _copy_kept(volume: Volume, wanted: set[str], store: TensorStore) -> None:
    import numpy as np

    def items() -> Iterator[Incoming]:
        for name in sorted(wanted):
            stored = volume.tensors[TensorId(name)]
            data = np.frombuffer(volume.part(stored.at, stored.stored), np.uint8)
            yield Incoming(stored.id, stored.dtype, stored.shape, data)

    with store.writer([volume.path]) as writer, SILENT.task("", 0) as task:
        writer.add_tensors(items(), task)
        writer.finish()


def _store_lost(repair: Repair, store: TensorStore) -> None:
    """Store the lost tensors and blobs that the checkpoint has, as ``init`` and ``commit`` would."""
    lost = {name: kind for name, kind in repair.exam.lost_contents().items() if not _has(store, name)}
    places: Places = dict(repair.source.places)
    tensors = [TensorId(name) for name in lost if name in places]
    blobs = [data for name in lost if (data := repair.source.blob(BlobId(name))) is not None]
    if not tensors and not blobs:
        return
    with (
        store.writer(repair.source.paths) as writer,
        repair.progress.task("storing again", _size(places, tensors)) as task,
    ):
        for data in blobs:
            writer.add_blob(data)
        writer.add_tensors(_incoming(repair, store, places, tensors), task)
        summary = writer.finish()
    some = ", ".join(name[:12] for name in sorted(tensors)[:3]) + (", …" if len(tensors) > 3 else "")
    repair.done.append(
        f"{summary.tensors} tensor(s) and {summary.blobs} blob(s) were stored again" + (f": {some}" if some else "")
    )


def _store_converted(repair: Repair, store: TensorStore) -> None:
    """Store lost tensors that a run had under other names and that are made of others, as ``commit`` makes them."""
    checkpoint = repair.source.checkpoint
    lost = {name for name in repair.exam.lost_contents() if not _has(store, name)}
    if checkpoint is None or not lost:
        return
    for name in repair.exam.catalog.of_kind("base"):
        try:
            places = _converted(checkpoint, Base.get(repair.exam.repo.objects, BaseId(name)), store)
        except Storage:
            raise
        except PersonaError:  # not a run of this base, or the base is damaged
            continue
        if not (tensors := [tensor for tensor in places if tensor in lost]):
            continue
        with (
            store.writer(repair.source.paths) as writer,
            repair.progress.task("storing again", _size(places, tensors)) as task,
        ):
            writer.add_tensors(_incoming(repair, store, places, tensors), task)
            writer.finish()
        lost -= {*tensors}
        repair.done.append(f"{len(tensors)} tensor(s) converted from the checkpoint's were stored again")


def _converted(checkpoint: Checkpoint, base: Base, store: TensorStore) -> Places:
    """The tensors of a run that are none of its files' once they are as in its base."""
    run, _ = padded(under_base(checkpoint, base, store).checkpoint, base, base_config(base, store), store)
    owners = {name: owner for name, owner in run.owner.items() if isinstance(owner, Computed)}
    infos = {name: run.infos[name] for name in owners}
    return {
        tensor_id(info.dtype, info.shape, owners[name].chunks(info)): (owners[name], info)
        for name, info in infos.items()
    }


def _store_adapter(repair: Repair, store: TensorStore) -> None:
    """Store lost tensors that are computed from an adapter and its base rather than read from its file."""
    lost = [name for name in repair.exam.lost_contents() if not _has(store, name)]
    if repair.source.checkpoint is not None or not lost:
        return
    known = bool(repair.exam.needed.keys() & repair.source.places.keys())
    for name in repair.exam.catalog.of_kind("base"):
        if known or _is_needed(repair, store, BaseId(name)):
            for _ in adapter_vectors(repair.exam, repair.source, BaseId(name), store, repair.progress):
                pass
    if restored := [name for name in lost if _has(store, name)]:
        repair.done.append(f"{len(restored)} tensor(s) computed from the adapter and the base were stored again")


def _is_needed(repair: Repair, store: TensorStore, name: BaseId) -> bool:
    """Whether a tensor that is computed from the adapter and a base belongs to the repository."""
    for tied in (None, *CHOICES):
        try:
            base = Base.get(repair.exam.repo.objects, name)
            adapter = checked_adapter(repair.source.folder, name, base, store, tied=tied)
            if any(tensor in repair.exam.needed for tensor in tensor_ids(adapter, base)):
                return True
        except Storage:
            raise
        except PersonaError:
            continue
        if tied is None:
            return False
    return False


def adapter_vectors(
    exam: Examination, source: RepairSource, name: BaseId, store: TensorStore, progress: Progress
) -> Iterator[Vector]:
    """Yield the vectors that an adapter can be on one base; their tensors are stored on the way, as by ``commit``."""
    for tied in (None, *CHOICES):
        try:
            base = Base.get(exam.repo.objects, name)
            vector = ingest_adapter(source.folder, name, base, store, progress, tied=tied).vector
        except Storage:
            raise
        except PersonaError:  # not an adapter of this base, or the base is damaged, or the choice is open or impossible
            continue
        yield vector
        if tied is None:  # there is no choice
            return


def _size(places: Places, tensors: list[TensorId]) -> int:
    return sum(places[name][1].nbytes for name in tensors)


def _incoming(repair: Repair, store: TensorStore, places: Places, tensors: list[TensorId]) -> Iterator[Incoming]:
    bases = _bases_for(repair.exam, store)
    for name in tensors:
        file, info = places[name]
        label = f"{file.path}: {info.name}"
        yield Incoming(name, info.dtype, info.shape, file.lazy(info), bases.get(name), label)


def _bases_for(exam: Examination, store: TensorStore) -> dict[str, TensorId]:
    """Return the good base tensors that tensors of vectors may be stored as deltas of."""
    whole = _base_tensors(exam) | {copy.base for copy in exam.weights.copies.values() if copy.base}
    good, bases = exam.weights.good(), dict[str, TensorId]()
    for name in sorted(exam.reached):
        if exam.catalog.known[name].kind != "vector":
            continue
        vector = Vector.get(exam.repo.objects, VectorId(name))
        if vector.base not in exam.catalog.known:
            continue
        specs = Base.get(exam.repo.objects, BaseId(vector.base)).tensors
        for tensor, spec in vector.tensors.items():
            base = specs[tensor].id if tensor in specs else None
            if base in good and base is not None and base in store and store.describe(base).base is None:
                bases[spec.id] = base
    return {name: base for name, base in bases.items() if name not in whole}


def _retire(repair: Repair, store: TensorStore, name: str, needed: set[str], *, aside: bool) -> None:
    """Delete a file that is no longer needed; set it aside if some of its contents are still lost."""
    absent = sum(not _has(store, part) for part in needed)
    index = repair.exam.repo.packs / name
    paths = [index] if index.suffix == ".pack" else [index, index.with_suffix(".safetensors")]
    if not absent:
        for path in paths:
            files.remove_file(path)
        repair.done.append(f"packs/{paths[-1].name} was replaced: everything needed from it is elsewhere")
    elif aside:
        for path in (path for path in paths if path.exists()):
            files.rename(path, path.with_name(path.name + SET_ASIDE))
        repair.done.append(f"packs/{paths[-1].name} was set aside: {absent} part(s) of it are still lost")


def forget_set_aside(exam: Examination) -> None:
    """Delete the files that repairs set aside, once nothing is lost."""
    for name in [name for name in exam.weights.loose if name.endswith(SET_ASIDE)]:
        files.remove_file(exam.repo.packs / name)
        exam.weights.loose.remove(name)
