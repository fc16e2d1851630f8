"""Carrying out what ``plan`` says, in an order that may be cut off at any instant.

1. Objects, those that refer before those that are referred to; each folder is synced before the next kind goes. So
   whatever object is still there has everything that it names, tensors included: someone may name a dead vector by
   its id, and gets all of it or an error. Were packs removed first, a recipe could still resolve to a vector whose
   weights are gone.
2. Files without live content: the list of ids of a safetensors file first, for a file without its list is not there.
3. Packs that are mostly dead: the new pack is written, synced and published before the old one goes. In between both
   have the same frames, which is no fault; the next collection keeps one.

A reader that has mapped a file goes on reading it after it was deleted. One that has only read its index finds it
gone, looks at the folder again and finds the new pack, which was there first. A pack is hashed before it is written
anew, so that damage is not given a new and valid name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from persona import files
from persona.ids import ObjectId
from persona.maintenance.check import RepositoryFiles
from persona.maintenance.gc_plan import GcPlan, Repack
from persona.maintenance.repack import copy_frames
from persona.maintenance.weights import digest_of
from persona.progress import SILENT, Progress


def collect(place: RepositoryFiles, plan: GcPlan, progress: Progress) -> tuple[int, tuple[str, ...]]:
    """Delete and repack. Needs the lock. Bytes that were not freed after all, and why."""
    for path in plan.unfinished:
        files.remove_tree(path) if path.is_dir() else files.remove_file(path)
    for phase in plan.phases:
        _remove_objects(place, phase)
    lists = [path for path in plan.files if path.suffix == ".json"]
    _remove(lists)
    _remove(path for path in plan.files if path not in set(lists))
    left, notes = 0, []
    with progress.task("repacking", sum(one.freed for one in plan.repacks)) as task:
        for one in plan.repacks:
            if not _repack(place, one):
                left += one.freed
                notes.append(f"packs/{one.volume.path.name} is damaged and was left alone (see 'persona fsck')")
            task.advance(one.freed)
    return left, tuple(notes)


def _remove_objects(place: RepositoryFiles, names: Iterable[ObjectId]) -> None:
    _remove(place.objects.path(name) for name in names)


def _remove(paths: Iterable[Path]) -> None:
    """Delete files, in order, and make that durable."""
    folders: dict[Path, None] = {}
    for path in paths:
        files.remove_file(path)
        folders[path.parent] = None
    for folder in folders:
        files.fsync_folder(folder)


def _repack(place: RepositoryFiles, one: Repack) -> bool:
    """Write what stays of a pack to a new one and delete the old; False if the old one is damaged."""
    old = one.volume.path
    if _digest(old) != old.stem:
        return False
    new = copy_frames(one.volume, one.wanted, place.packs, place.tmp)
    if new != old:
        _remove([old])
    return True


def _digest(path: Path) -> str:
    with SILENT.task("", 0) as task:
        return digest_of(path, task)
