"""``persona checkout``: go to a revision. Recipe and HEAD move; weights on disk are never touched."""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.history.revisions import place_before
from persona.ids import CommitId
from persona.repository import Repository
from persona.workspace.record import refuse_while_merging


@dataclass(frozen=True)
class CheckoutResult:
    """Where HEAD stands now; ``branch`` is None when it is detached.

    ``carried`` says that edits of ``persona.toml`` came along; ``left`` is a commit that no branch or tag has, which
    a detached HEAD has left behind.
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
    """Make ``rev`` the recipe, on its branch if it names one, or on the new branch ``branch``."""
    with repo.transaction(command) as change:
        refuse_while_merging(repo)
        refs = repo.refs()
        rev = place(repo, rev)
        commit = repo.resolve(rev)
        if branch is not None:
            ref = refs_.BRANCHES + refs_.checked_name(branch)
            if ref in refs:
                raise UsageError(f"there is a branch '{branch}' already", f"Go to it: persona switch {branch}")
            change.set_ref(ref, commit)
        follows = branch or (None if detach else _branch_of(rev, refs))
        change.set_ref(refs_.HEAD, f"{refs_.SYMBOLIC}{refs_.BRANCHES}{follows}" if follows else commit)
        text = get_text(repo.objects, repo.commit(commit).text)
        carried = _carries_edits(repo, text)
        if not carried:
            change.set_recipe_text(text)
        left = _left_behind(repo, commit)
        return CheckoutResult(commit, repo.commit(commit).subject, follows, branch is not None, carried, left)


def place(repo: Repository, rev: str) -> str:
    """``-`` and ``@{-1}`` as the branch or commit that was left last."""
    number = 1 if rev == "-" else int(rev[3:-1]) if rev.startswith("@{-") and rev[3:-1].isdigit() else 0
    return (place_before(number, repo.refs(), repo.log) or rev) if number else rev


def _branch_of(rev: str, refs: dict[str, str]) -> str | None:
    """The branch that HEAD follows after ``checkout rev``."""
    if refs_.BRANCHES + rev in refs:
        return rev
    return refs_.current_branch(refs) if rev in (refs_.HEAD, "@") else None


def _carries_edits(repo: Repository, target: str) -> bool:
    """Whether edits stay as they are, because both commits have the same recipe; refused if they would be lost."""
    standing, committed = repo.recipe_bytes(), repo.head_text()
    if standing in (None, target.encode(), committed.encode()):
        return False
    if target == committed:
        return True
    raise Refusal(
        f"{repo.recipe_path.name} has edits that checkout would overwrite",
        "Keep them (persona commit -m MESSAGE), or drop them (persona restore); then run it again.",
    )


def _left_behind(repo: Repository, target: CommitId) -> CommitId | None:
    """The commit that HEAD is leaving if it is detached there and nothing else stands on or, nearby, above it."""
    refs = repo.refs()
    here = refs_.head_commit(refs)
    if refs_.current_branch(refs) is not None or here == target:
        return None
    heads = [refs_.commit_of(r, refs) for r in refs if r.startswith((refs_.BRANCHES, refs_.TAGS))]
    return None if here in repo.ancestry.of([target, *heads]) else here
