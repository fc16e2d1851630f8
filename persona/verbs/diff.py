"""``persona diff``: what changed between two recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from persona.progress import SILENT, Progress
from persona.recipe.changes import Change, changes
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.verbs.interference import measured
from persona.verbs.recording import standing_recipe

if TYPE_CHECKING:
    from persona.building.interference import Interference

WORK_TREE = "persona.toml"


@dataclass(frozen=True)
class Diffed:
    """Differences from ``before`` to ``after``, both named as a person would; ``weights`` where they were read."""

    before: str
    after: str
    changes: tuple[Change, ...]
    weights: Interference | None = None


def diff(
    repo: Repository,
    before: str | None = None,
    after: str | None = None,
    *,
    weights: bool = False,
    by: str = "layer",
    progress: Progress = SILENT,
) -> Diffed:
    """Between two revisions; ``after`` is the edited recipe unless given, ``before`` HEAD unless given.

    With ``weights`` also how far the vectors of ``after`` agree and what changed since ``before``, by layer or tensor.
    """
    old, old_name = _recipe(repo, before or "HEAD")
    new, new_name = _recipe(repo, after) if after is not None else (standing_recipe(repo), WORK_TREE)
    report = measured(repo, new, old, by, progress) if weights else None
    return Diffed(old_name, new_name, tuple(changes(old, new, repo.objects)), report)


def _recipe(repo: Repository, rev: str) -> tuple[Recipe, str]:
    commit = repo.resolve(rev)
    return repo.recipe(commit), f"{rev} ({commit.short})"
