"""``persona switch``: switch to a branch."""

from __future__ import annotations

from persona.errors import UsageError
from persona.history import refs as refs_
from persona.repository import Repository
from persona.verbs.checkout import CheckoutResult, checkout, place


def switch(
    repo: Repository, name: str, *, create: bool = False, start: str | None = None, command: str = "switch"
) -> CheckoutResult:
    """Switch to a branch.

    Args:
        name: The branch, or ``-`` for the previous one.
        create: Create the branch first.
        start: Revision at which to create it; HEAD by default.

    Raises:
        UsageError: There is no such branch, or it exists already and ``create`` is set.
        Refusal: Edits in ``persona.toml`` would be overwritten, or a merge is unfinished.
    """
    if create:
        return checkout(repo, start or refs_.HEAD, branch=name, command=command)
    target = place(repo, name)
    if refs_.BRANCHES + target not in repo.refs():
        repo.resolve(target)  # raises if there is no such revision either
        raise UsageError(
            f"'{name}' is a revision, not a branch",
            f"Check it out with a detached HEAD (persona checkout {name}), or create a branch there: "
            f"persona switch -c NAME {name}",
        )
    return checkout(repo, target, command=command)
