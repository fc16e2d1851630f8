"""Rebuild lost bases and vectors from a checkpoint: those that come out with the lost id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import PersonaError, Storage
from persona.ids import BaseId, ObjectId, object_digest
from persona.maintenance.check import Examination
from persona.maintenance.repair import Repair, adapter_vectors
from persona.maintenance.sources import RepairSource
from persona.progress import Progress
from persona.store.ingest import ingest_run
from persona.store.nouns import Base, Vector
from persona.store.objects import ObjectStore, encode
from persona.store.tensors import TensorStore

REBUILDABLE = ("base", "vector")
"""Kinds that a checkpoint can restore; commits, recipes, texts and operations are not in any checkpoint."""


def rebuild_objects(exam: Examination, source: RepairSource, progress: Progress) -> list[str]:
    """Write the lost bases and vectors that the checkpoint yields; return sentences about what was done."""
    wanted = {name: kind for name, kind in exam.missing.items() if kind in REBUILDABLE}
    done = []
    for kind, data in _candidates(exam, source, set(wanted.values()), progress):
        name = ObjectId(object_digest(data))
        if wanted.get(name) == kind:
            path = exam.repo.objects.path(name)
            files.make_folder(path.parent)
            files.write_file(path, data)
            done.append(f"{kind} {name.short} was rebuilt")
    return done


def _candidates(
    exam: Examination, source: RepairSource, kinds: set[str], progress: Progress
) -> Iterator[tuple[str, bytes]]:
    """Yield the kind and encoding of every object that the checkpoint could be."""
    for base in source.bases() if "base" in kinds else ():
        yield "base", encoding(base)
    if "vector" in kinds:
        store = Repair(exam, source, progress).store()
        for name in exam.catalog.of_kind("base"):
            for vector in _vectors(exam, source, BaseId(name), store, progress):
                yield "vector", encoding(vector)


def _vectors(
    exam: Examination, source: RepairSource, name: BaseId, store: TensorStore, progress: Progress
) -> Iterator[Vector]:
    """Yield the vectors that the checkpoint can be on one base; their tensors are stored on the way, as by ``commit``."""
    if source.checkpoint is None:
        yield from adapter_vectors(exam, source, name, store, progress)
        return
    try:
        base = Base.get(exam.repo.objects, name)
        vector = ingest_run(source.checkpoint, name, base, store, progress).vector
    except Storage:
        raise
    except PersonaError:  # not a run of this base, or the base cannot be read
        return
    yield vector


def encoding(noun: Base | Vector) -> bytes:
    """Return the canonical encoding of a base or vector."""
    probe = _Probe(Path())
    noun.put(probe)
    return probe.data


class _Probe(ObjectStore):
    """An object store that only remembers the encoding."""

    data = b""

    def put(self, kind: str, fields: Mapping[str, Any]) -> ObjectId:
        """Remember the encoding, and return the id."""
        self.data = encode(kind, fields)
        return ObjectId(object_digest(self.data))
