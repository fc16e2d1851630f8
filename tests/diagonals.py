"""Fisher diagonals for the vectors of a test, without a model: the engine does not ask where they come from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import persona
from persona.ids import FisherId, VectorId
from persona.recipe import edit
from persona.recipe.model import Entry, Recipe
from persona.store.fishers import Fisher, keep_fisher
from persona.workspace.record import worktree_recipe


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """As diagonals are: most of it small, a few entries large, some zero."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) ** 4 * 1e-5 * (rng.random(shape) > 0.1)).astype(np.float32)


def put_diagonal(repo: persona.Repository, name: str, tensors: Mapping[str, np.ndarray]) -> FisherId:
    """Give a vector of ``persona.toml`` as it stands this diagonal."""
    recipe = worktree_recipe(repo)
    entry = recipe.entry(name)
    assert entry is not None
    alone = Recipe(recipe.base, recipe.base_name, (Entry(name, entry.id),))
    flat = np.concatenate([np.empty(0), *(one.reshape(-1) for one in tensors.values())])
    kept = Fisher(
        base=recipe.base_id,
        data=(),
        examples=1,
        tokens=1,
        seed=0,
        tensors=keep_fisher(tensors, repo.tensors),
        recipe=alone.put(repo.objects),
        trace=float(flat.sum()),
        norm=float(np.sqrt((flat**2).sum())),
    ).put(repo.objects)
    text = repo.recipe_text()
    assert text is not None
    repo.recipe_path.write_text(edit.set_fisher(text, name, kept))
    return kept


def put_diagonals(repo: persona.Repository, without: tuple[str, ...] = ()) -> None:
    """One for each vector, of all that it changes and the base has, but for some tensors."""
    recipe = worktree_recipe(repo)
    base = repo.base(recipe.base_id)
    for number, entry in enumerate(recipe.vectors):
        names = [n for n in repo.vector(VectorId(entry.id)).names if n in base.tensors and n not in without]
        put_diagonal(repo, entry.name, {n: drawn(base.tensors[n].shape, 99 * number + k) for k, n in enumerate(names)})
