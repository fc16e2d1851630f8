"""`persona rm`: remove vectors and readouts from the recipe. History keeps them."""

from __future__ import annotations

from collections.abc import Sequence

from persona.recipe import edit
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.workspace.readouts import known_name
from persona.workspace.record import RecordedCommit, clean_recipe, record


def rm(
    repo: Repository,
    names: Sequence[str],
    *,
    message: str | None = None,
    author: str = "",
    command: str = "rm",
) -> RecordedCommit:
    """Remove vectors and readouts from the recipe, and commit it.

    Raises:
        UsageError: A name is not in the recipe.
        Refusal: `persona.toml` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        recipe = parse(text)
        for name in dict.fromkeys(names):
            if recipe.readout(name) is not None:
                text = edit.remove_readout(text, name)
                continue
            known_name(recipe, name)
            text = edit.remove_vector(text, name)
        return record(repo, change, text, message or f"remove {', '.join(names)}", author)
