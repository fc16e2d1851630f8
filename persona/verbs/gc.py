"""``persona gc``: delete what nothing refers to."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

from persona.errors import UsageError
from persona.maintenance.gc import collect
from persona.maintenance.gc_plan import GcPlan, plan
from persona.maintenance.report import GcReport
from persona.progress import SILENT, Progress
from persona.repository import Repository

__all__ = ["GRACE", "GcReport", "gc"]

GRACE = 14.0
"""Days for which what an operation replaced can be brought back."""


def gc(
    repo: Repository,
    *,
    dry_run: bool = False,
    grace: float = GRACE,
    now: datetime | None = None,
    command: str = "gc",
    progress: Progress = SILENT,
) -> GcReport:
    """Delete what no ref, the recipe, nor an operation of the last ``grace`` days needs."""
    if not 0 <= grace < 365_000:
        raise UsageError(f"a grace period of {grace:g} days makes no sense", "Give a number of days, such as 14 or 0.")
    moment = now or datetime.now(UTC)
    with contextlib.nullcontext() if dry_run else repo.exclusive(command):
        place = repo.on_disk()
        found = plan(place, moment, timedelta(days=grace))
        left, notes = (0, ()) if dry_run else collect(place, found, progress)
        return _collected(found, dry_run, left, notes)


def _collected(found: GcPlan, dry_run: bool, left: int, notes: tuple[str, ...]) -> GcReport:
    return GcReport(
        dry_run=dry_run,
        objects=sum(map(len, found.phases)),
        files=sum(path.suffix != ".json" for path in found.files),
        repacked=len(found.repacks) - len(notes),
        unfinished=len(found.unfinished),
        freed=found.freed - left,
        kept_objects=found.kept_objects,
        kept_bytes=found.kept_bytes,
        notes=(*found.notes, *notes),
    )
