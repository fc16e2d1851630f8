"""`persona alpha`: set how strongly vectors act, and the scale of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from persona.errors import Refusal, UsageError
from persona.recipe import alphas, edit
from persona.recipe.parse import LARGEST, parse
from persona.recipe.rewrite import rewrite
from persona.repository import Repository
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record


def alpha(
    repo: Repository,
    values: Mapping[str, alphas.Alpha],
    *,
    scale: float | None = None,
    message: str | None = None,
    author: str = "",
    command: str = "alpha",
) -> RecordedCommit:
    """Set the alphas of vectors, and the scale of the recipe, and commit it.

    Args:
        values: New alpha by vector: a number for all tensors, or a tuple with alphas by depth or by pattern.
        scale: New scale of the recipe, which multiplies the sum of all vectors.

    Raises:
        UsageError: A vector is not in the recipe, or an alpha or the scale is not finite.
        Refusal: Nothing changes, or `persona.toml` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        recipe = parse(text)
        summary = []
        for name, value in values.items():
            before = entry_of(recipe, name).alpha
            if not all(abs(number) <= LARGEST for number in alphas.numbers(value)):  # also false for NaN
                what = f"alpha {alphas.alpha_text(value)} of '{name}' is not a finite number of at most {LARGEST:.0e}"
                raise UsageError(what, "Use a number such as 0.8.")
            if before != value:
                summary.append(f"{name} α {alphas.alpha_text(before)} → {alphas.alpha_text(value)}")
                text = edit.set_alpha(text, name, value if isinstance(value, tuple) else float(value))
        if scale is not None and not abs(scale) <= LARGEST:
            raise UsageError(
                f"scale {scale:g} is not a finite number of at most {LARGEST:.0e}", "Use a number such as 0.8."
            )
        if scale is not None and scale != recipe.scale:
            summary.append(f"scale {recipe.scale:g} → {scale:g}")
            text = rewrite(text, replace(parse(text), scale=float(scale)))
        if not summary:
            what = "these alphas" if scale is None else "these alphas and this scale" if values else "this scale"
            raise Refusal(f"nothing to change: the recipe already has {what}", "See 'persona vectors'.")
        return record(repo, change, text, message or "; ".join(summary), author)
