"""Merging a vector that was retrained on both sides.

ours     keep our vector
theirs   take their vector
both     keep ours under its name and add theirs as NAME-SIDE, each with its own alpha and settings
mean     use ½·ours + ½·theirs, a derived vector that takes no storage
"""

from __future__ import annotations

import re
from dataclasses import replace

from persona.ids import VectorId
from persona.recipe.model import Entry, Recipe
from persona.recipe.threeway import MergeConflict, MergedRecipe
from persona.repository import Repository

_CHOSEN = {"ours": "ours", "theirs": "theirs", "mean": "the mean of both trainings"}
RETRAINED = ("ours", "theirs", "both", "mean")


def settle_retrained(
    repo: Repository, merged: MergedRecipe, ours: Recipe, theirs: Recipe, label: str, how: str | None
) -> tuple[MergedRecipe, list[str]]:
    """Resolve conflicts about vectors' ids.

    Args:
        merged: The merged recipe with its conflicts.
        ours: Our recipe.
        theirs: Their recipe.
        label: A name for their side.
        how: One of ``RETRAINED``; None leaves the conflicts.

    Returns:
        The merged recipe without these conflicts, and a note for each.
    """
    retrained = [clash for clash in merged.clashes if clash.path[0] == "vectors" and clash.path[2:] == ("id",)]
    if how is None or not retrained:
        return merged, []
    notes = []
    clashes = [clash for clash in merged.clashes if clash not in retrained]
    recipe = merged.recipe
    for clash in retrained:
        name = clash.path[1]
        mine, other = ours.entry(name), theirs.entry(name)
        assert mine is not None
        assert other is not None
        if how == "both":
            recipe, note = _beside(recipe, mine, other, label)
            clashes = [other for other in clashes if other.path[:2] != clash.path[:2]]
        else:
            recipe, note = _replaced(repo, recipe, mine, other, clash, how)
        notes.append(note)
    return MergedRecipe(recipe, tuple(clashes)), notes


def _beside(recipe: Recipe, ours: Entry, theirs: Entry, label: str) -> tuple[Recipe, str]:
    """Keep ours, and add theirs under a new name."""
    stem = f"{ours.name}-{re.sub(r'[^A-Za-z0-9_-]+', '-', label).strip('-') or 'theirs'}"[:60]
    free = (name for name in (stem, *(f"{stem}-{n}" for n in range(2, 100))) if recipe.entry(name) is None)
    name = next(free)
    vectors = [ours if entry.name == ours.name else entry for entry in recipe.vectors]
    both = (*vectors, replace(theirs, name=name))
    return replace(recipe, vectors=both), f"{ours.name} is ours, and theirs was added as {name}: both are active"


def _replaced(
    repo: Repository, recipe: Recipe, ours: Entry, theirs: Entry, clash: MergeConflict, how: str
) -> tuple[Recipe, str]:
    name = clash.path[1]
    chosen = _mean(repo, recipe, clash) if how == "mean" else getattr(clash, how)
    fisher = {"ours": ours.fisher, "theirs": theirs.fisher}.get(how)
    vectors = [replace(entry, id=chosen, fisher=fisher) if entry.name == name else entry for entry in recipe.vectors]
    return replace(recipe, vectors=tuple(vectors)), f"{name} is {_CHOSEN[how]}"


def _mean(repo: Repository, recipe: Recipe, clash: MergeConflict) -> VectorId:
    from persona.workspace.derived import mean_of  # imported here because only this reads tensor headers

    return mean_of(repo, recipe, clash.ours, clash.theirs)
