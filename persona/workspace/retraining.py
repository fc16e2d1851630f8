"""A vector that was retrained on both sides of a merge: one of them, both, or their mean.

ours     the vector that we have
theirs   the vector that they have
both     ours under its name, theirs beside it as NAME-SIDE, each with its own alpha and settings
mean     ½·ours + ½·theirs, derived: it is computed when it is read, and costs no storage
"""

from __future__ import annotations

import re
from dataclasses import replace

from persona.ids import VectorId
from persona.recipe.model import Entry, Recipe
from persona.recipe.threeway import MergeConflict, MergedRecipe
from persona.repository import Repository

_SAID = {"ours": "ours", "theirs": "theirs", "mean": "the mean of both trainings"}
RETRAINED = ("ours", "theirs", "both", "mean")


def settle_retrained(
    repo: Repository, merged: MergedRecipe, ours: Recipe, theirs: Recipe, label: str, how: str | None
) -> tuple[MergedRecipe, list[str]]:
    """``merged`` without its clashes about vectors' ids, settled as asked; and what to tell."""
    twice = [clash for clash in merged.clashes if clash.path[0] == "vectors" and clash.path[2:] == ("id",)]
    if how is None or not twice:
        return merged, []
    notes = []
    clashes = [clash for clash in merged.clashes if clash not in twice]
    recipe = merged.recipe
    for clash in twice:
        name = clash.path[1]
        mine, other = ours.entry(name), theirs.entry(name)
        assert mine is not None
        assert other is not None
        if how == "both":
            recipe, note = _beside(recipe, mine, other, label)
            clashes = [one for one in clashes if one.path[:2] != clash.path[:2]]
        else:
            recipe, note = _instead(repo, recipe, mine, other, clash, how)
        notes.append(note)
    return MergedRecipe(recipe, tuple(clashes)), notes


def _beside(recipe: Recipe, ours: Entry, theirs: Entry, label: str) -> tuple[Recipe, str]:
    """Ours as it is, and theirs under a name of its own."""
    stem = f"{ours.name}-{re.sub(r'[^A-Za-z0-9_-]+', '-', label).strip('-') or 'theirs'}"[:60]
    free = (name for name in (stem, *(f"{stem}-{n}" for n in range(2, 100))) if recipe.entry(name) is None)
    name = next(free)
    vectors = [ours if entry.name == ours.name else entry for entry in recipe.vectors]
    both = (*vectors, replace(theirs, name=name))
    return replace(recipe, vectors=both), f"{ours.name} is ours, theirs is beside it as {name}: both act now"


def _instead(
    repo: Repository, recipe: Recipe, ours: Entry, theirs: Entry, clash: MergeConflict, how: str
) -> tuple[Recipe, str]:
    name = clash.path[1]
    chosen = _mean(repo, recipe, clash) if how == "mean" else getattr(clash, how)
    fisher = {"ours": ours.fisher, "theirs": theirs.fisher}.get(how)
    vectors = [replace(one, id=chosen, fisher=fisher) if one.name == name else one for one in recipe.vectors]
    return replace(recipe, vectors=tuple(vectors)), f"{name} is {_SAID[how]}"


def _mean(repo: Repository, recipe: Recipe, clash: MergeConflict) -> VectorId:
    from persona.workspace.derived import mean_of  # looks at weights' headers, as no other way does

    return mean_of(repo, recipe, clash.ours, clash.theirs)
