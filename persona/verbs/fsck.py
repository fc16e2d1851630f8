"""``persona fsck``: check everything, and repair from an original checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from persona.errors import NoRepository, UsageError
from persona.maintenance.check import RepositoryFiles, check, conclude
from persona.maintenance.rebuild import REBUILDABLE, rebuild_objects
from persona.maintenance.repair import forget_set_aside, repair_contents
from persona.maintenance.report import AffectedCommit, CheckCounts, CheckReport, LostObject
from persona.maintenance.sources import open_source
from persona.progress import SILENT, Progress
from persona.repository import FOLDER, Repository, find, refuse_links

__all__ = ["AffectedCommit", "CheckCounts", "CheckReport", "LostObject", "fsck", "open_damaged"]

ROUNDS = 3
"""Repairing a base may reveal further losses: deltas of it, and tensors that it names."""


def fsck(
    repo: Repository,
    *,
    sample: float = 1.0,
    seed: int = 0,
    repair_from: Path | str | None = None,
    command: str = "fsck",
    progress: Progress = SILENT,
) -> CheckReport:
    """Check a repository, and optionally repair it.

    Args:
        sample: Share of the tensors' bytes to read, above 0 and up to 1.
        seed: Random seed of the sample.
        repair_from: Folder of a base, run or adapter to repair from; everything is then read, whatever ``sample`` is.

    Raises:
        UsageError: ``sample`` is out of range.
        CheckpointError: ``repair_from`` is not a checkpoint or adapter.
        Locked: ``repair_from`` is given, and another process holds the lock.
    """
    if not 0 < sample <= 1:
        raise UsageError(f"a sample of {sample:g} is not between 0 and 1", "Give a share such as 0.05.")
    if repair_from is None:
        return conclude(check(repo.on_disk(), progress, sample, seed), sample, seed)
    with repo.exclusive(command):
        return _repair(repo.on_disk(), Path(repair_from), progress)


def open_damaged(start: Path) -> Repository:
    """Open the repository at or above ``start``, even if its format file is damaged or missing.

    Raises:
        NoRepository: there is none.
        Damaged: part of it is a link: what is below that may be somebody else's.
    """
    root = _find_damaged(start)
    refuse_links(root / FOLDER)
    return Repository(root)


def _find_damaged(start: Path) -> Path:
    try:
        return find(start)
    except NoRepository:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / FOLDER / "objects").is_dir():
                return folder
        raise


def _repair(files: RepositoryFiles, path: Path, progress: Progress) -> CheckReport:
    source = open_source(path, progress)
    exam, done = check(files, progress), list[str]()
    for _ in range(ROUNDS):
        if conclude(exam).ok:
            break
        repaired = repair_contents(exam, source, progress) + rebuild_objects(exam, source, progress)
        if not repaired:
            break
        done += repaired
        exam = check(files, progress)
    if done and conclude(exam).ok:
        forget_set_aside(exam)
    report = conclude(exam, healed=tuple(done))
    return replace(report, notes=(*report.notes, *_not_repairable(report)))


def _not_repairable(report: CheckReport) -> Iterator[str]:
    for loss in report.lost:
        if loss.kind not in ("tensor", "blob", *REBUILDABLE):
            yield (
                f"{loss.kind} {loss.id[:12]} cannot be repaired from a checkpoint: copy its file from a backup or "
                f"another copy of the repository"
            )
