"""How much the vectors of a recipe interfere, measured on their weights before they are merged."""

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
    """Measure how much the vectors of a recipe interfere: angles, opposed signs, and what survives trimming.

    Args:
        rev: Revision of the recipe. The default is `persona.toml`.
        by: Rows of the report, `layer` or `tensor`.

    Raises:
        UsageError: The revision or a vector does not exist.
    """
    recipe = worktree_recipe(repo) if rev is None else repo.recipe(repo.resolve(rev))
    return report_on(repo, recipe, None, by, progress)


def report_on(repo: Repository, recipe: Recipe, before: Recipe | None, by: str, progress: Progress) -> Interference:
    """Measure a resolved recipe; with `before`, an older recipe, also how far the weights moved since."""
    from persona.building.interference import interference as measure

    if before is not None and before.base != recipe.base:
        raise UsageError(
            f"the recipes have different bases: {before.base[:12]} and {recipe.base[:12]}",
            "Weights can only be compared on the same base. Leave --weights out to compare the recipes.",
        )
    then = (before, repo.vectors(before)) if before is not None else None
    base = repo.base(recipe.base_id)
    return measure(recipe, base, repo.vectors(recipe), repo.tensors, before=then, by=by, progress=progress)
