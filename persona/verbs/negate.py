"""`persona negate`: subtract a behaviour instead of adding it."""

from __future__ import annotations

from persona.recipe import alphas
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.verbs.alpha import alpha as set_alpha
from persona.workspace.record import RecordedCommit, entry_of, worktree_text


def negate(
    repo: Repository,
    name: str,
    *,
    alpha: float | None = None,
    message: str | None = None,
    author: str = "",
    command: str = "negate",
) -> RecordedCommit:
    """Flip the sign of a vector's alpha, and commit the recipe.

    Args:
        alpha: Set the vector's alpha to minus this instead.

    Raises:
        UsageError: The vector is not in the recipe.
        Refusal: `persona.toml` has edits.
    """
    current = entry_of(parse(worktree_text(repo)), name).alpha
    value = alphas.times(current, -1) if alpha is None else -alpha
    message = message or f"negate {name} (α {alphas.alpha_text(value)})"
    return set_alpha(repo, {name: value}, message=message, author=author, command=command)
