"""Objects that a checkpoint can bring back: a base or a vector that comes out with the very id that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import PersonaError, Storage
from persona.ids import BaseId, ObjectId, object_digest
from persona.maintenance.check import Examination
from persona.maintenance.repair import Healing
from persona.maintenance.sources import RepairSource
from persona.progress import Progress
from persona.store.ingest import ingest_run
from persona.store.ingest_adapter import ingest_adapter
from persona.store.nouns import Base, Vector
from persona.store.objects import ObjectStore, encode
from persona.store.tensors import TensorStore

REMADE = ("base", "vector")
"""Kinds that a checkpoint can bring back; a commit, a recipe, a text or an operation is written down nowhere else."""


def remake_objects(found: Examination, source: RepairSource, progress: Progress) -> list[str]:
    """Write lost bases and vectors again that the checkpoint gives; sentences about what was done."""
    wanted = {name: kind for name, kind in found.missing.items() if kind in REMADE}
    done = []
    for kind, data in _made(found, source, set(wanted.values()), progress):
        name = ObjectId(object_digest(data))
        if wanted.get(name) == kind:
            path = found.place.objects.path(name)
            files.make_folder(path.parent)
            files.write_file(path, data)
            done.append(f"{kind} {name.short} was made again")
    return done


def _made(found: Examination, source: RepairSource, kinds: set[str], progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Every object that the checkpoint could be, each as its encoding."""
    base = source.base() if "base" in kinds else None
    if base is not None:
        yield "base", encoding(base)
    if "vector" in kinds:
        store = Healing(found, source, progress).store()
        for name in found.catalog.of_kind("base"):
            vector = _vector(found, source, BaseId(name), store, progress)
            if vector is not None:
                yield "vector", encoding(vector)


def _vector(
    found: Examination, source: RepairSource, name: BaseId, store: TensorStore, progress: Progress
) -> Vector | None:
    """The vector that the checkpoint is of one base; what it needs is stored by the way, as ``commit`` does."""
    try:
        base = Base.get(found.place.objects, name)
        if source.checkpoint is None:
            return ingest_adapter(source.folder, name, base, store, progress).vector
        return ingest_run(source.checkpoint, name, base, store, progress).vector
    except Storage:
        raise
    except PersonaError:  # it is no run of this base, or this base cannot be read
        return None


def encoding(noun: Base | Vector) -> bytes:
    """The canonical encoding of a base or vector."""
    probe = _Probe(Path())
    noun.put(probe)
    return probe.data


class _Probe(ObjectStore):
    """Takes an object's encoding instead of keeping it."""

    data = b""

    def put(self, kind: str, fields: Mapping[str, Any]) -> ObjectId:
        """Remember the encoding; its id."""
        self.data = encode(kind, fields)
        return ObjectId(object_digest(self.data))
