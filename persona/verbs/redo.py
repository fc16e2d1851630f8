"""``persona redo``: redo the operation that ``undo`` undid last."""

from __future__ import annotations

from persona.errors import Refusal
from persona.repository import Repository
from persona.verbs.undo import UndoResult, move
from persona.workspace.record import clean_recipe


def redo(repo: Repository, *, command: str = "redo") -> UndoResult:
    """Redo the operation that was undone last.

    Raises:
        Refusal: There is nothing to redo, ``persona.toml`` has edits, or a needed commit was deleted by ``gc``.
    """
    with clean_recipe(repo, command) as (change, _):
        undone = repo.log.to_redo()
        if undone is None:
            raise Refusal("nothing to redo", "See 'persona op log'.")
        name, operation = undone
        move(repo, change, operation, 1)
        change.makes_again(name)
        return UndoResult(name, operation.command, tuple(sorted(operation.refs)))
