"""How far the vectors of a recipe agree, from their weights: what a merge of them will have to resolve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.progress import SILENT, Progress
from persona.recipe.model import Recipe
from persona.repository import Repository
from persona.workspace.record import worktree_recipe

if TYPE_CHECKING:
    from persona.building.interference import Interference


def interference(
    repo: Repository, rev: str | None = None, *, by: str = "layer", progress: Progress = SILENT
) -> Interference:
    """Of the recipe as it stands, or of a revision: angles, opposed signs, what survives; by layer or tensor."""
    recipe = worktree_recipe(repo) if rev is None else repo.recipe(repo.resolve(rev))
    return measured(repo, recipe, None, by, progress)


def measured(repo: Repository, recipe: Recipe, before: Recipe | None, by: str, progress: Progress) -> Interference:
    """The report of a resolved recipe, beside the one before it if given."""
    from persona.building.interference import interference as measure

    if before is not None and before.base != recipe.base:
        raise UsageError(
            f"the two recipes have different bases: {before.base[:12]} and {recipe.base[:12]}",
            "Weights can be compared on one base only; without --weights, diff shows what changed in the recipes.",
        )
    then = (before, repo.vectors(before)) if before is not None else None
    base = repo.base(recipe.base_id)
    return measure(recipe, base, repo.vectors(recipe), repo.tensors, before=then, by=by, progress=progress)
