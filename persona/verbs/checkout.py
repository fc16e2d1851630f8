"""``persona checkout``: go to a revision. Recipe and HEAD move; weights on disk are never touched."""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal, UsageError
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.ids import CommitId
from persona.repository import Repository


@dataclass(frozen=True)
class CheckedOut:
    """Where HEAD stands now; ``branch`` is None when it is detached."""

    commit: CommitId
    subject: str
    branch: str | None
    created: bool


def checkout(
    repo: Repository, rev: str = refs_.HEAD, *, branch: str | None = None, command: str = "checkout"
) -> CheckedOut:
    """Make ``rev`` the recipe, on its branch if it names one, or on the new branch ``branch``."""
    with repo.transaction(command) as change:
        refs = repo.refs()
        commit = repo.resolve(rev)
        text = get_text(repo.objects, repo.commit(commit).text)
        _protect_edits(repo, text)
        if branch is not None:
            ref = refs_.BRANCHES + refs_.checked_name(branch)
            if ref in refs:
                raise UsageError(f"there is a branch '{branch}' already", f"Go to it: persona checkout {branch}")
            change.set_ref(ref, commit)
        follows = branch or (rev if refs_.BRANCHES + rev in refs else None)
        if follows is None and rev in (refs_.HEAD, "@"):
            follows = refs_.current_branch(refs)
        change.set_ref(refs_.HEAD, f"{refs_.SYMBOLIC}{refs_.BRANCHES}{follows}" if follows else commit)
        change.set_recipe_text(text)
        return CheckedOut(commit, repo.commit(commit).subject, follows, branch is not None)


def _protect_edits(repo: Repository, target: str) -> None:
    standing = repo.recipe_bytes()
    if standing not in (None, target.encode(), repo.head_text().encode()):
        raise Refusal(
            f"{repo.recipe_path.name} has edits that checkout would overwrite",
            "Keep them (persona commit -m MESSAGE), or drop them (persona restore); then run it again.",
        )
