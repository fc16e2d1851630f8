"""Carry out a gc plan, in an order that is safe to interrupt at any point.

1. Objects, referring ones before those that they refer to; each folder is synced before the next kind is deleted. So
   every object that still exists has everything that it names, tensors included: naming a dead vector by its id gives
   all of it or an error. If packs went first, a recipe could still resolve to a vector without weights.
2. Files without live content: the list of ids of a safetensors file first, since a file without its list is ignored.
3. Packs that are mostly dead, and many small ones: the new pack is written, synced and published before the old ones are
   deleted. In between both have the same frames, which is not a fault; the next gc keeps one.

A reader that has opened a file can go on reading after its deletion. One that has only read its index finds the file
gone, reads the folder again and finds the new pack, which was published first. A pack is hashed before it is
rewritten, so that damaged bytes never get a new and valid name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from persona import files
from persona.maintenance.check import RepositoryFiles
from persona.maintenance.gc_plan import GcPlan
from persona.maintenance.joining import Repack
from persona.maintenance.repack import copy_frames
from persona.maintenance.weights import digest_of
from persona.progress import Progress


def collect(repo: RepositoryFiles, plan: GcPlan, progress: Progress) -> tuple[Repack, ...]:
    """Delete, repack and join; requires the lock. Return the packs that are damaged, and were left alone."""
    for path in plan.unfinished:
        files.remove_tree(path) if path.is_dir() else files.remove_file(path)
    for phase in plan.phases:
        _remove(map(repo.objects.path, phase))
    _remove([path for path in plan.files if path.suffix == ".json"])
    _remove([path for path in plan.files if path.suffix != ".json"])
    damaged, rewrites = list[Repack](), [*((pack,) for pack in plan.repacks), *plan.joins]
    with progress.task("repacking", sum(pack.alive for group in rewrites for pack in group)) as task:
        for group in rewrites:
            whole = [pack for pack in group if digest_of(pack.volume.path) == pack.volume.path.stem]
            damaged += [pack for pack in group if pack not in whole]
            _rewrite(repo, whole)
            task.advance(sum(pack.alive for pack in group))
    return tuple(damaged)


def _remove(paths: Iterable[Path]) -> None:
    """Delete files in order, and sync their folders."""
    folders: dict[Path, None] = {}
    for path in paths:
        files.remove_file(path)
        folders[path.parent] = None
    for folder in folders:
        files.fsync_folder(folder)


def _rewrite(repo: RepositoryFiles, packs: Sequence[Repack]) -> None:
    """Copy the wanted parts of packs to a new one and delete the old ones."""
    new = copy_frames([(pack.volume, pack.wanted) for pack in packs], repo.packs, repo.tmp)
    _remove([pack.volume.path for pack in packs if pack.volume.path != new])
