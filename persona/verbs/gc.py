"""``persona gc``: delete what nothing needs."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from itertools import chain

from persona.errors import Storage, UsageError
from persona.maintenance.gc import collect
from persona.maintenance.gc_plan import GcPlan, plan
from persona.maintenance.joining import Repack
from persona.maintenance.report import GcReport
from persona.progress import SILENT, Progress
from persona.repository import Repository

__all__ = ["GRACE", "GcReport", "gc"]

GRACE = 14.0
"""Days for which data that an operation replaced is kept."""


def gc(
    repo: Repository,
    *,
    dry_run: bool = False,
    grace: float = GRACE,
    now: datetime | None = None,
    command: str = "gc",
    progress: Progress = SILENT,
) -> GcReport:
    """Delete what is not needed by any ref, the current recipe, or an operation that can be undone.

    These are the operations of the last ``grace`` days and, unless that is 0, the ten newest. Where a clock was wrong, the
    order of operations counts.

    Args:
        dry_run: Delete nothing, only report what would be deleted.
        grace: Days for which data that an operation replaced is kept.
        now: The current time, unless given.

    Raises:
        UsageError: ``grace`` is negative or too large.
        Damaged: A needed object is damaged, so what it refers to is unknown; nothing was deleted.
        Storage: A file or folder of the repository, or ``persona.toml``, cannot be read; nothing was deleted.
    """
    if not 0 <= grace < 365_000:
        raise UsageError(f"a grace period of {grace:g} days is out of range", "Give a number of days, such as 14 or 0.")
    moment = now or datetime.now(UTC)
    with contextlib.nullcontext() if dry_run else repo.exclusive(command):
        _refuse_unread_recipe(repo)
        files = repo.on_disk()
        todo = plan(files, moment, timedelta(days=grace))
        return _report(todo, dry_run, () if dry_run else collect(files, todo, progress))


def _refuse_unread_recipe(repo: Repository) -> None:
    """Raise if there is a ``persona.toml`` that cannot be read: what it names is unknown."""
    if repo.recipe_bytes() is None and repo.recipe_path.is_symlink():
        raise Storage(
            f"{repo.recipe_path} is a link to a file that is not there",
            "Nothing was deleted. Bring the file back, or: rm persona.toml && persona restore",
        )


def _report(todo: GcPlan, dry_run: bool, damaged: tuple[Repack, ...]) -> GcReport:
    left_alone = (
        f"packs/{pack.volume.path.name} is damaged and was left alone (see 'persona fsck')" for pack in damaged
    )
    joined = list(chain(*todo.joins))
    return GcReport(
        dry_run=dry_run,
        objects=sum(map(len, todo.phases)),
        files=sum(path.suffix != ".json" for path in todo.files),
        repacked=sum(pack not in damaged for pack in todo.repacks),
        joined=sum(pack not in damaged for pack in joined),
        unfinished=len(todo.unfinished),
        freed=todo.freed - sum(pack.freed for pack in damaged),
        kept_objects=todo.kept_objects,
        kept_bytes=todo.kept_bytes,
        notes=(*todo.notes, *left_alone),
    )
