"""Prepare a recipe for a build: which vectors are active, and what will be computed. No weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from persona.building.acting import Active, active_vectors
from persona.building.groups import assembled, brought
from persona.building.plan import Plan, make_plan
from persona.building.sidefiles import SideFiles, side_files
from persona.checkpoints import groups
from persona.recipe import alphas
from persona.recipe.model import Recipe
from persona.store.fishers import Fisher
from persona.store.nouns import Base, Vector
from persona.store.tensors import TensorStore


@dataclass(frozen=True)
class Prepared:
    """A resolved recipe with its base, its active vectors and the plan of its build."""

    recipe: Recipe
    base: Base
    active: tuple[Active, ...]
    plan: Plan

    def side_files(self, store: TensorStore) -> dict[str, bytes]:
        """Make the files beside the weights: configs, tokenizer and chat template, by name.

        Raises:
            Refusal: two vectors bring different files or settings, and the recipe does not choose.
        """
        return self.beside(store).files

    def beside(self, store: TensorStore) -> SideFiles:
        """Make the files beside the weights, with notes about them; see :meth:`side_files`."""
        return side_files(self.plan, self.base, self.active, store, self.recipe.choices)

    def adapter_files(self, store: TensorStore) -> dict[str, bytes]:
        """The tokenizer, chat template and processor, if they are not the base's: files for an adapter's folder.

        Raises:
            Refusal: two vectors bring different files, and the recipe does not choose.
        """
        bringing = [a for a in self.active if alphas.adds(a.entry.alpha)]
        theirs, chosen = brought(bringing, self.base, store, self.recipe.choices)
        files = assembled(theirs, chosen)
        words = {groups.TOKENIZER, groups.TEMPLATE}  # one may be inside a file of the other
        wanted = {*(words if words & set(chosen) else ()), *({groups.PROCESSOR} & set(chosen))}
        return {name: data for name, data in files.items() if groups.group_of(name) in wanted}


def prepare(
    recipe: Recipe,
    base: Base,
    vectors: Mapping[str, Vector],
    dtype: str | None = None,
    diagonals: Mapping[str, Fisher] | None = None,
) -> Prepared:
    """Find the active vectors of ``recipe`` and plan its build.

    Args:
        recipe: A resolved recipe.
        base: Its base.
        vectors: Its vectors, by their names in the recipe.
        dtype: safetensors name of the dtype for every float tensor. By default each keeps its own.
        diagonals: Fisher diagonals by vector name, for a method that weighs entries.

    Raises:
        UsageError: a pattern matches no tensor, or the method does not accept these vectors.
        Refusal: two vectors cannot be built together.
    """
    active = active_vectors(recipe, base, vectors, diagonals)
    return Prepared(recipe, base, tuple(active), make_plan(recipe, base, vectors, dtype, active))
