"""Repair from an original checkpoint: what is damaged or missing, and what the checkpoint has, is stored again.

Nothing is taken away before what replaces it is durable. Files with a fault are read no more while this works: what
is whole in them is copied, what is lost and the checkpoint has is stored anew, and a file goes when everything that
is needed of it lies elsewhere. If something of it stays lost it is renamed, for a person may still want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona import files
from persona.checkpoints.tensorfile import TensorFile
from persona.errors import PersonaError, Storage
from persona.ids import BaseId, BlobId, TensorId, VectorId
from persona.maintenance.check import Examination
from persona.maintenance.repack import copy_frames
from persona.maintenance.sources import RepairSource
from persona.maintenance.weights import SET_ASIDE, digest_of
from persona.progress import SILENT, Progress
from persona.store import kept, lists
from persona.store.ingest_adapter import ingest_adapter
from persona.store.nouns import Base, Vector
from persona.store.packs import Volume
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore


@dataclass
class Healing:
    """One round of repair."""

    found: Examination
    source: RepairSource
    progress: Progress
    done: list[str] = field(default_factory=list)
    rewritten: set[str] = field(default_factory=set)

    @property
    def suspect(self) -> set[str]:
        """Files with a fault, by the name of their index, that were not replaced whole."""
        return self.found.weights.suspect() - self.rewritten

    def store(self) -> TensorStore:
        """The store as it is without the suspect files."""
        place = self.found.place
        return TensorStore(place.packs, place.tmp, frozenset(self.suspect))


def heal_contents(found: Examination, source: RepairSource, progress: Progress) -> list[str]:
    """Tensors, blobs and the files that hold them; sentences about what was done."""
    healing = Healing(found, source, progress)
    _rewrite_kept(healing)
    store = healing.store()
    _store_lost(healing, store)
    _store_adapter(healing, store)
    for name in sorted(healing.suspect):
        _replace(healing, store, name)
    return healing.done


def _rewrite_kept(healing: Healing) -> None:
    """Safetensors files whose very bytes are at hand: in the checkpoint, or beside a damaged list of ids."""
    place, weights = healing.found.place, healing.found.weights
    wanted = {Path(name).stem for name in weights.suspect() if name.endswith(".json")}
    if healing.found.lost_contents():
        wanted |= {Path(name).stem for name in weights.loose if name.endswith(".safetensors")}
    origins: dict[str, Path] = {}
    for stem in sorted(wanted):
        data = place.packs / f"{stem}.safetensors"
        if data.exists() and _digest(data) == stem:
            origins[stem] = data
        elif stem in healing.source.digests:
            origins[stem] = healing.source.digests[stem].path
    for file in healing.source.files:
        if file.path not in origins.values() and _mostly_lost(healing, file):
            origins[file.path.name] = file.path
    for origin in origins.values():
        _adopt(healing, origin)


def _digest(path: Path) -> str:
    with SILENT.task("", 0) as task:
        return digest_of(path, task)


def _mostly_lost(healing: Healing, file: TensorFile) -> bool:
    """Whether most of a file is lost and was a base's, so that the file is best kept as it is."""
    if healing.source.checkpoint is None:
        return False
    lost = healing.found.lost_contents().keys() & _base_tensors(healing.found)
    ids = healing.source.ids
    gone = sum(info.nbytes for info in file.tensors.values() if ids[info.name] in lost)
    return gone * 2 > sum(info.nbytes for info in file.tensors.values())


def _base_tensors(found: Examination) -> set[str]:
    bases = (name for name in found.reached if found.catalog.known[name].kind == "base")
    return {tensor for base in bases for tensor in found.catalog.known[base].edges.tensors}


def _adopt(healing: Healing, origin: Path) -> None:
    """Store a file again; a repository that keeps no bytes of its base goes on like that, and learns where they are."""
    place = healing.found.place
    refer = origin.parent != place.packs and bool(lists.all_outside(place.packs))
    keep: kept.Keep = "reference" if refer else "copy"
    with healing.progress.task("storing a file again", origin.stat().st_size) as task:
        adopted = kept.adopt(origin, place.packs, place.tmp, task, keep=keep, again=True)
    healing.rewritten.add(f"{Path(adopted.name).stem}.json")
    done = (
        f"{origin.resolve()} is referred to from now on" if refer else f"packs/{adopted.name} was stored again, whole"
    )
    healing.done.append(done)


def _replace(healing: Healing, store: TensorStore, name: str) -> None:
    """Take a suspect file out of use, unless what it lost is as lost as before."""
    found = healing.found
    volume = found.weights.files.get(name)
    if volume is None or name in found.weights.unreadable:
        _retire(healing, store, name, set(found.needed), aside=False)
        return
    needed = _needed_of(found, volume)
    lost = needed & found.lost_contents().keys()
    if not lost or any(_has(store, one) for one in lost):
        _salvage(healing, store, name, volume, needed)
        _retire(healing, store, name, needed, aside=True)


def _salvage(healing: Healing, store: TensorStore, name: str, volume: Volume, needed: set[str]) -> None:
    """Copy what is whole in a suspect file, or may be once its base is healed, and lies nowhere else."""
    bad = healing.found.weights.bad
    wanted = {one for one in needed if (name, one) not in bad and not _has(store, one)}
    if not wanted:
        return
    if name.endswith(".pack"):
        copy_frames(volume, wanted, store.packs, store.tmp)
    else:
        _copy_kept(volume, wanted, store)
    healing.done.append(f"{len(wanted)} whole part(s) of {volume.label} were copied")


def _needed_of(found: Examination, volume: Volume) -> set[str]:
    return found.needed.keys() & {*volume.tensors, *volume.blobs}


def _has(store: TensorStore, name: str) -> bool:
    return TensorId(name) in store or store.has_blob(BlobId(name))


def _copy_kept(volume: Volume, wanted: set[str], store: TensorStore) -> None:
    import numpy as np

    def items() -> Iterator[Incoming]:
        for name in sorted(wanted):
            stored = volume.tensors[TensorId(name)]
            data = np.frombuffer(volume.part(stored.at, stored.stored), np.uint8)
            yield Incoming(stored.id, stored.dtype, stored.shape, data)

    with store.writer() as writer, SILENT.task("", 0) as task:
        writer.add_tensors(items(), task)
        writer.finish()


def _store_lost(healing: Healing, store: TensorStore) -> None:
    """Store lost tensors and blobs that the checkpoint has, as ``init`` and ``commit`` would."""
    lost = {name: kind for name, kind in healing.found.lost_contents().items() if not _has(store, name)}
    tensors = [TensorId(name) for name in lost if name in healing.source.places]
    blobs = [data for name in lost if (data := healing.source.blob(BlobId(name))) is not None]
    if not tensors and not blobs:
        return
    sizes = sum(healing.source.places[name][1].nbytes for name in tensors)
    with store.writer() as writer, healing.progress.task("storing again", sizes) as task:
        for data in blobs:
            writer.add_blob(data)
        writer.add_tensors(_incoming(healing, store, tensors), task)
        summary = writer.finish()
    said = ", ".join(name[:12] for name in sorted(tensors)[:3]) + (", …" if len(tensors) > 3 else "")
    healing.done.append(
        f"{summary.tensors} tensor(s) and {summary.blobs} blob(s) were stored again" + (f": {said}" if said else "")
    )


def _store_adapter(healing: Healing, store: TensorStore) -> None:
    """An adapter's tensors that are made from it and the base, not read from its file."""
    lost = [name for name in healing.found.lost_contents() if not _has(store, name)]
    known = healing.found.needed.keys() & healing.source.places.keys()
    if healing.source.checkpoint is not None or not lost or not known:
        return
    for name in healing.found.catalog.of_kind("base"):
        try:
            base = Base.get(healing.found.place.objects, BaseId(name))
            ingest_adapter(healing.source.folder, BaseId(name), base, store, healing.progress)
        except Storage:
            raise
        except PersonaError:  # not an adapter of this base, or the base is damaged
            continue
    if back := [name for name in lost if _has(store, name)]:
        healing.done.append(f"{len(back)} tensor(s) that the adapter makes of the base were stored again")


def _incoming(healing: Healing, store: TensorStore, tensors: list[TensorId]) -> Iterator[Incoming]:
    bases = _bases_for(healing.found, store)
    for name in tensors:
        file, info = healing.source.places[name]
        label = f"{file.path}: {info.name}"
        yield Incoming(name, info.dtype, info.shape, file.data(info), bases.get(name), label)


def _bases_for(found: Examination, store: TensorStore) -> dict[str, TensorId]:
    """For tensors of vectors, the tensor of the base that they may be stored against: it must be there, and whole."""
    whole = _base_tensors(found) | {copy.base for copy in found.weights.copies.values() if copy.base}
    good, bases = found.weights.good(), dict[str, TensorId]()
    for name in sorted(found.reached):
        if found.catalog.known[name].kind != "vector":
            continue
        vector = Vector.get(found.place.objects, VectorId(name))
        if vector.base not in found.catalog.known:
            continue
        specs = Base.get(found.place.objects, BaseId(vector.base)).tensors
        for tensor, spec in vector.tensors.items():
            base = specs[tensor].id if tensor in specs else None
            if base in good and base is not None and base in store and store.describe(base).base is None:
                bases[spec.id] = base
    return {name: base for name, base in bases.items() if name not in whole}


def _retire(healing: Healing, store: TensorStore, name: str, needed: set[str], *, aside: bool) -> None:
    """Remove a file of which nothing is needed any more; else set it aside, for a person may want the rest."""
    absent = sum(not _has(store, one) for one in needed)
    index = healing.found.place.packs / name
    paths = [index] if index.suffix == ".pack" else [index, index.with_suffix(".safetensors")]
    if not absent:
        for path in paths:
            files.remove_file(path)
        healing.done.append(f"packs/{paths[-1].name} was replaced: all that is needed of it lies elsewhere")
    elif aside:
        for path in (path for path in paths if path.exists()):
            files.rename(path, path.with_name(path.name + SET_ASIDE))
        healing.done.append(f"packs/{paths[-1].name} was set aside: {absent} part(s) of it are still lost")


def forget_set_aside(found: Examination) -> None:
    """Delete what repairs set aside; for when nothing is lost any more."""
    for name in [name for name in found.weights.loose if name.endswith(SET_ASIDE)]:
        files.remove_file(found.place.packs / name)
        found.weights.loose.remove(name)
