"""``persona redo``: redo the operation that ``undo`` undid last."""

from __future__ import annotations

from persona.errors import Refusal
from persona.repository import Repository
from persona.verbs.undo import UndoResult, check_nothing_lost, move


def redo(repo: Repository, *, command: str = "redo") -> UndoResult:
    """Redo the operation that was undone last.

    Raises:
        Refusal: There is nothing to redo, ``persona.toml`` has edits, or a needed commit was deleted by ``gc``.
    """
    with repo.transaction(command) as change:
        undone = repo.log.to_redo()
        check_nothing_lost(repo, undone[1] if undone else None, 0)
        if undone is None:
            raise Refusal("nothing to redo", "See 'persona op log'.")
        name, operation = undone
        move(repo, change, operation, 1)
        change.makes_again(name)
        return UndoResult(name, operation.command, tuple(sorted(operation.refs)))
