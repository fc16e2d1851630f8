"""``persona redo``: make the change again that ``undo`` took back last."""

from __future__ import annotations

from persona.errors import Refusal
from persona.repository import Repository
from persona.verbs.undo import UndoResult, move
from persona.workspace.record import clean_recipe


def redo(repo: Repository, *, command: str = "redo") -> UndoResult:
    """Make the change again that was taken back last."""
    with clean_recipe(repo, command) as (change, _):
        taken_back = repo.log.to_redo()
        if taken_back is None:
            raise Refusal("nothing to redo", "'persona op log' shows what was done and undone.")
        name, operation = taken_back
        move(repo, change, operation, 1)
        change.makes_again(name)
        return UndoResult(name, operation.command, tuple(sorted(operation.refs)))
