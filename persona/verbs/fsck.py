"""``persona fsck``: examine everything, and heal from an original checkpoint what it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from persona.errors import NoRepository, UsageError
from persona.keeping import heal, remake
from persona.keeping.examine import Place, conclude, examine
from persona.keeping.report import Checked, Counts, Loss, Touched
from persona.keeping.sources import open_source
from persona.progress import SILENT, Progress
from persona.repository import FOLDER, FORMAT, Repository, find

__all__ = ["Checked", "Counts", "Loss", "Touched", "fsck", "open_damaged"]

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
) -> Checked:
    """Examine a repository; ``sample`` is the share of the tensors' bytes to read, ``repair_from`` a checkpoint."""
    if not 0 < sample <= 1:
        raise UsageError(f"a sample of {sample:g} is not between 0 and 1", "Give a share such as 0.05.")
    if repair_from is None:
        return conclude(examine(place_of(repo), progress, sample, seed), sample, seed)
    with repo.exclusive(command):
        return _repair(place_of(repo), Path(repair_from), progress)


def place_of(repo: Repository) -> Place:
    """What keeping needs to know of a repository."""
    try:
        text = repo.recipe_path.read_bytes().decode(errors="replace")
    except OSError:
        text = None
    return Place(repo.folder, f"persona {FORMAT}", text)


def open_damaged(start: Path) -> Repository:
    """The repository at or above ``start``, whatever is wrong with it."""
    try:
        return Repository(find(start))
    except NoRepository:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / FOLDER / "objects").is_dir():
                return Repository(folder)
        raise


def _repair(place: Place, path: Path, progress: Progress) -> Checked:
    source = open_source(path, progress)
    found, done = examine(place, progress), list[str]()
    for _ in range(ROUNDS):
        if conclude(found).ok:
            break
        healed = heal.heal_contents(found, source, progress) + remake.remake_objects(found, source, progress)
        if not healed:
            break
        done += healed
        found = examine(place, progress)
    if done and conclude(found).ok:
        heal.forget_set_aside(found)
    checked = conclude(found, healed=tuple(done))
    return replace(checked, notes=(*checked.notes, *_cannot(checked)))


def _cannot(checked: Checked) -> Iterator[str]:
    for loss in checked.lost:
        if loss.kind not in ("tensor", "blob", *remake.REMADE):
            yield (
                f"{loss.kind} {loss.id[:12]} cannot come back from a checkpoint: copy its file from a backup or "
                f"another copy of the repository"
            )
