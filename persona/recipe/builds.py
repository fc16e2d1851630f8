"""What names a build: all that determines its weights, and nothing else."""

from __future__ import annotations

from typing import Any

from persona import methods
from persona.ids import object_digest
from persona.recipe import alphas
from persona.recipe.model import Recipe
from persona.store.objects import canonical


def build_digest(recipe: Recipe, dtype: str | None = None, control: int | None = None) -> str:
    """64 hex digits for base, method, and vectors with their strengths; not for their names, nodes, or an alpha of 0.

    A vector's Fisher diagonal counts where the method weighs by it, and nowhere else. ``dtype`` is the one that it runs in if that is not its own; ``control`` the seed of noise that stands in for its change.
    """
    weighs = methods.weighs(methods.load(recipe.method))
    vectors = [
        [
            *(entry.id, alphas.encode(entry.alpha), list(entry.only), list(entry.excepted), dict(entry.parameters)),
            *([entry.fisher] if weighs and entry.fisher else []),
        ]
        for entry in recipe.vectors
        if alphas.acts(entry.alpha)
    ]
    fields: dict[str, Any] = {"base": recipe.base, "dtype": dtype, "vectors": vectors}
    if vectors:
        fields |= {"method": recipe.method, "scale": recipe.scale, "parameters": dict(recipe.parameters)}
    if control is not None:
        fields["control"] = control
    return object_digest(b"persona build\n" + canonical(fields))
