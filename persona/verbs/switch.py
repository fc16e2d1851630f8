"""``persona switch``: go to a branch."""

from __future__ import annotations

from persona.errors import UsageError
from persona.history import refs as refs_
from persona.repository import Repository
from persona.verbs.checkout import CheckoutResult, checkout, place


def switch(
    repo: Repository, name: str, *, create: bool = False, start: str | None = None, command: str = "switch"
) -> CheckoutResult:
    """Go to a branch, or (``create``) to a new one that begins at ``start``."""
    if create:
        return checkout(repo, start or refs_.HEAD, branch=name, command=command)
    there = place(repo, name)
    if refs_.BRANCHES + there not in repo.refs():
        repo.resolve(there)  # says if there is no such thing at all
        raise UsageError(
            f"'{name}' is a revision and not a branch",
            f"Look at it with a detached HEAD (persona checkout {name}), or begin a branch there: "
            f"persona switch -c NAME {name}",
        )
    return checkout(repo, there, command=command)
