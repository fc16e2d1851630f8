"""``persona fsck``: examine everything, and heal from an original checkpoint what it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from persona.errors import NoRepository, UsageError
from persona.maintenance import rebuild as remake
from persona.maintenance import repair as heal
from persona.maintenance.check import RepositoryFiles, check, conclude
from persona.maintenance.report import AffectedCommit, CheckCounts, CheckReport, LostObject
from persona.maintenance.sources import open_source
from persona.progress import SILENT, Progress
from persona.repository import FOLDER, Repository, find

__all__ = ["AffectedCommit", "CheckCounts", "CheckReport", "LostObject", "fsck", "open_damaged"]

ROUNDS = 3
"""Healing a base may show what else is lost: the differences to it, the tensors that it names."""


def fsck(
    repo: Repository,
    *,
    sample: float = 1.0,
    seed: int = 0,
    repair_from: Path | str | None = None,
    command: str = "fsck",
    progress: Progress = SILENT,
) -> CheckReport:
    """Examine a repository; ``sample`` is the share of the tensors' bytes to read, ``repair_from`` a checkpoint."""
    if not 0 < sample <= 1:
        raise UsageError(f"a sample of {sample:g} is not between 0 and 1", "Give a share such as 0.05.")
    if repair_from is None:
        return conclude(check(repo.on_disk(), progress, sample, seed), sample, seed)
    with repo.exclusive(command):
        return _repair(repo.on_disk(), Path(repair_from), progress)


def open_damaged(start: Path) -> Repository:
    """The repository at or above ``start``, whatever is wrong with it."""
    try:
        return Repository(find(start))
    except NoRepository:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / FOLDER / "objects").is_dir():
                return Repository(folder)
        raise


def _repair(place: RepositoryFiles, path: Path, progress: Progress) -> CheckReport:
    source = open_source(path, progress)
    found, done = check(place, progress), list[str]()
    for _ in range(ROUNDS):
        if conclude(found).ok:
            break
        healed = heal.heal_contents(found, source, progress) + remake.remake_objects(found, source, progress)
        if not healed:
            break
        done += healed
        found = check(place, progress)
    if done and conclude(found).ok:
        heal.forget_set_aside(found)
    checked = conclude(found, healed=tuple(done))
    return replace(checked, notes=(*checked.notes, *_cannot(checked)))


def _cannot(checked: CheckReport) -> Iterator[str]:
    for loss in checked.lost:
        if loss.kind not in ("tensor", "blob", *remake.REMADE):
            yield (
                f"{loss.kind} {loss.id[:12]} cannot come back from a checkpoint: copy its file from a backup or "
                f"another copy of the repository"
            )
