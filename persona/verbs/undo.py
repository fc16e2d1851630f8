"""``persona undo``: undo the last operation.

An undo is an operation itself, so nothing is forgotten: it sets refs to their values from before the undone operation,
and ``persona.toml`` to the text of the commit that HEAD then points at, or to the edited text that a stash was made from. Repeated undos go further back, ``redo`` goes
forward again, and any other operation ends the chance to redo. The idea is jj's.
"""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.history.operations import Operation
from persona.ids import CommitId, OperationId
from persona.repository import Repository, Transaction
from persona.workspace.record import check_clean, refuse_while_merging, worktree_text


@dataclass(frozen=True)
class UndoResult:
    """The operation that was undone or redone, its command line, and the refs that changed."""

    operation: OperationId
    command: str
    refs: tuple[str, ...]


def undo(repo: Repository, *, command: str = "undo") -> UndoResult:
    """Undo the newest operation that was not undone yet.

    Raises:
        Refusal: There is nothing to undo, ``persona.toml`` has edits, or a needed commit was deleted by ``gc``.
    """
    with repo.transaction(command) as change:
        newest = repo.log.to_undo()
        check_nothing_lost(repo, newest[1] if newest else None, 1)
        if newest is None:
            raise Refusal("nothing to undo: only the first operation is left", "See 'persona op log'.")
        name, operation = newest
        move(repo, change, operation, 0)
        change.takes_back(name)
        return UndoResult(name, operation.command, tuple(sorted(operation.refs)))


def move(repo: Repository, change: Transaction, operation: Operation, side: int) -> None:
    """Set the operation's refs to their values before (``side`` 0) or after (1) it, and the recipe to HEAD's."""
    refs = repo.refs()
    for name, values in operation.refs.items():
        if name.startswith(refs_.MERGES):
            continue  # an unfinished merge is not restored: its conflicts were resolved, or it was aborted
        _check_kept(repo, name, values[side])
        change.set_ref(name, values[side])
        refs[name] = values[side] or ""
    edited = stashed_text(repo, operation, side)
    change.set_recipe_text(repo.text(refs_.head_commit(refs)) if edited is None else edited)


def check_nothing_lost(repo: Repository, operation: Operation | None, side: int) -> None:
    """Raise Refusal if a merge is unfinished, or ``persona.toml`` has edits other than those that a stash is about.

    Args:
        side: Whether ``persona.toml`` should be as the operation found it (0) or as it left it (1).
    """
    refuse_while_merging(repo)
    text = worktree_text(repo)
    if operation is None or text != stashed_text(repo, operation, side):
        check_clean(repo)


def stashed_text(repo: Repository, operation: Operation, side: int) -> str | None:
    """Return ``persona.toml`` before (``side`` 0) or after (1) an operation that stashed an edit or took one back."""
    is_of_a_stash = any(name.startswith(refs_.STASHES) for name in operation.refs)
    text = operation.recipe[side] if operation.recipe is not None and is_of_a_stash else None
    return get_text(repo.objects, text) if text is not None else None


def _check_kept(repo: Repository, name: str, value: str | None) -> None:
    """Raise Refusal if ``gc`` has deleted the commit that a ref would point at."""
    if value and not value.startswith(refs_.SYMBOLIC) and CommitId(value) not in repo.objects:
        raise Refusal(
            f"{name} pointed at commit {value[:12]}, which gc has deleted since",
            "See 'persona op log' for what is left.",
        )
