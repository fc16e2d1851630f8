"""`persona mv`: rename a vector or readout of the recipe."""

from __future__ import annotations

from persona.errors import UsageError
from persona.recipe.parse import checked_vector_name, parse
from persona.recipe.renaming import rename
from persona.repository import Repository
from persona.workspace.readouts import known_name
from persona.workspace.record import RecordedCommit, clean_recipe, record


def mv(
    repo: Repository,
    old: str,
    new: str,
    *,
    message: str | None = None,
    author: str = "",
    command: str = "mv",
) -> RecordedCommit:
    """Rename a vector or readout, and commit the recipe. Its place, its comments and its node stay.

    Raises:
        UsageError: There is no `old`, there is a `new` already, or `new` is not a valid name.
        Refusal: `persona.toml` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        recipe = parse(text)
        known_name(recipe, old)
        checked_vector_name(new, "vector" if recipe.entry(old) is not None else "readout")
        if new in recipe.names:
            raise UsageError(f"there is a '{new}' already", "Choose another name, or remove it first: persona rm NAME")
        entry = repo.recipe(repo.head()).entry(old)
        pins = {new: entry.specification} if entry is not None and entry.specification else None
        return record(repo, change, rename(text, old, new), message or f"rename {old} to {new}", author, pins=pins)
