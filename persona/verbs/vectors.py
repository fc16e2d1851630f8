"""`persona vectors`: list the vectors of a recipe."""

from __future__ import annotations

from persona.repository import Repository
from persona.workspace.record import worktree_recipe
from persona.workspace.vectors import VectorSummary, summarize


def vectors(repo: Repository, rev: str | None = None) -> list[VectorSummary]:
    """List the vectors of `persona.toml`, or of the revision `rev`, in recipe order."""
    recipe = worktree_recipe(repo) if rev is None else repo.recipe(repo.resolve(rev))
    return [summarize(repo, entry, recipe) for entry in recipe.vectors]
