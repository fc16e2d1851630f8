"""``persona negate``: take a behaviour away instead of adding it."""

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
    """Flip the sign of a vector's alpha, or set it to −``alpha``; and commit that."""
    current = entry_of(parse(worktree_text(repo)), name).alpha
    value = alphas.times(current, -1) if alpha is None else -alpha
    said = f"negate {name} (α {alphas.alpha_text(value)})"
    return set_alpha(repo, {name: value}, message=message or said, author=author, command=command)
