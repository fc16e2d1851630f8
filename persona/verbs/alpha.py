"""`persona alpha`: set how strongly vectors act."""

from __future__ import annotations

from collections.abc import Mapping

from persona.errors import Refusal, UsageError
from persona.recipe import alphas, edit
from persona.recipe.parse import LARGEST, parse
from persona.repository import Repository
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record


def alpha(
    repo: Repository,
    values: Mapping[str, alphas.Alpha],
    *,
    message: str | None = None,
    author: str = "",
    command: str = "alpha",
) -> RecordedCommit:
    """Set the alphas of vectors, and commit the recipe.

    Args:
        values: New alpha by vector: a number for all tensors, or a tuple with alphas by depth or by pattern.

    Raises:
        UsageError: A vector is not in the recipe, or an alpha is not finite.
        Refusal: No alpha changes, or `persona.toml` has edits.
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
        if not summary:
            raise Refusal("nothing to change: the recipe already has these alphas", "See 'persona vectors'.")
        return record(repo, change, text, message or "; ".join(summary), author)
