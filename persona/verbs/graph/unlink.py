"""``persona graph unlink``: remove the node of a vector."""

from __future__ import annotations

from persona.errors import Refusal
from persona.recipe import edit
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.workspace.record import RecordedCommit, clean_recipe, entry_of, record


def graph_unlink(
    repo: Repository,
    vector: str,
    *,
    message: str | None = None,
    author: str = "",
    command: str = "graph unlink",
) -> RecordedCommit:
    """Unlink a vector from its node, and commit that; the vector itself stays.

    Raises:
        UsageError: There is no such vector.
        Refusal: The vector has no node, or ``persona.toml`` has edits.
    """
    with clean_recipe(repo, command) as (change, text):
        node = entry_of(parse(text), vector).node
        if node is None:
            raise Refusal(f"'{vector}' has no node", "See 'persona graph status'.")
        subject = message or f"{vector} no longer implements {node}"
        return record(repo, change, edit.set_node(text, vector, None), subject, author)
