"""``persona checkout``: move HEAD and the recipe to a revision. Weights on disk are never touched."""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal
from persona.history import refs as refs_
from persona.history.revisions import place_before
from persona.ids import CommitId
from persona.recipe.parse import parse
from persona.repository import Repository
from persona.workspace.record import refuse_while_merging, worktree_text


@dataclass(frozen=True)
class CheckoutResult:
    """Where HEAD is now; ``branch`` is null when it is detached, and ``created`` says that the branch is new.

    ``carried`` means that edits in ``persona.toml`` were kept. ``left`` is the previous commit if HEAD was detached there
    and no branch or tag contains it.
    """

    commit: CommitId
    subject: str
    branch: str | None
    created: bool
    carried: bool = False
    left: CommitId | None = None


def checkout(
    repo: Repository,
    rev: str = refs_.HEAD,
    *,
    branch: str | None = None,
    detach: bool = False,
    command: str = "checkout",
) -> CheckoutResult:
    """Check out a revision.

    Args:
        rev: A revision; if it is a branch's name, HEAD follows that branch.
        branch: Create a branch of this name at ``rev``, and switch to it.
        detach: Point HEAD at the commit itself, even if ``rev`` is a branch.

    Raises:
        UsageError: There is no such revision, or ``branch`` exists already.
        Refusal: Edits in ``persona.toml`` would be overwritten, or a merge is unfinished.
        RecipeError: They would be overwritten, and cannot be parsed.
    """
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        refs = repo.refs()
        rev = place(repo, rev)
        commit = repo.resolve(rev)
        if branch is not None:
            change.set_ref(refs_.branch_ref(branch, refs), commit)
        follows = branch or (None if detach else _branch_of(rev, refs))
        change.set_ref(refs_.HEAD, f"{refs_.SYMBOLIC}{refs_.BRANCHES}{follows}" if follows else commit)
        text = repo.text(commit)
        carried = _carries_edits(repo, text)
        if not carried:
            change.set_recipe_text(text)
        left = _left_behind(repo, commit)
        return CheckoutResult(commit, repo.commit(commit).subject, follows, branch is not None, carried, left)


def place(repo: Repository, rev: str) -> str:
    """Resolve ``-`` and ``@{-N}`` to the branch or commit of an earlier checkout; return other revisions unchanged."""
    number = 1 if rev == "-" else int(rev[3:-1]) if rev.startswith("@{-") and rev[3:-1].isdigit() else 0
    return (place_before(number, repo.refs(), repo.log) or rev) if number else rev


def _branch_of(rev: str, refs: dict[str, str]) -> str | None:
    """Return the branch that HEAD follows after ``checkout rev``."""
    if refs_.BRANCHES + rev in refs:
        return rev
    return refs_.current_branch(refs) if rev in (refs_.HEAD, "@") else None


def _carries_edits(repo: Repository, target: str) -> bool:
    """Return whether edits can be kept, because both commits have the same recipe; refuse if they would be lost."""
    current, committed = repo.recipe_bytes(), repo.head_text()
    if current in (None, target.encode(), committed.encode()):
        return False
    if target == committed:
        return True
    parse(worktree_text(repo))  # a mistake is to be fixed, not discarded
    raise Refusal(
        f"{repo.recipe_path.name} has edits that checkout would overwrite",
        "Commit them (persona commit -m MESSAGE) or discard them (persona restore), then run the command again.",
    )


def _left_behind(repo: Repository, target: CommitId) -> CommitId | None:
    """Return the commit that a detached HEAD leaves, if it will not be reachable from the target, a branch or a tag."""
    refs = repo.refs()
    here = refs_.head_commit(refs)
    if refs_.current_branch(refs) is not None or here == target:
        return None
    return None if here in repo.ancestry.of([target, *refs_.tips(refs)]) else here
