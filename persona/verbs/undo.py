"""``persona undo``: undo the last operation.

An undo is an operation itself, so nothing is forgotten: it sets refs to their values from before the undone operation,
and ``persona.toml`` to the text of the commit that HEAD then points at. Repeated undos go further back, ``redo`` goes
forward again, and any other operation ends the chance to redo. The idea is jj's.
"""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal
from persona.history import refs as refs_
from persona.history.operations import Operation
from persona.ids import CommitId, OperationId
from persona.repository import Repository, Transaction
from persona.workspace.record import clean_recipe


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
    with clean_recipe(repo, command) as (change, _):
        newest = repo.log.to_undo()
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
    change.set_recipe_text(repo.text(refs_.head_commit(refs)))


def _check_kept(repo: Repository, name: str, value: str | None) -> None:
    """Raise Refusal if ``gc`` has deleted the commit that a ref would point at."""
    if value and not value.startswith(refs_.SYMBOLIC) and CommitId(value) not in repo.objects:
        raise Refusal(
            f"{name} pointed at commit {value[:12]}, which gc has deleted since",
            "See 'persona op log' for what is left.",
        )
