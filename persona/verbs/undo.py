"""``persona undo``: take the last change back.

An undo is an operation itself, so nothing is forgotten: it gives refs the values from before the operation that it
takes back, and ``persona.toml`` the text of the commit that HEAD then stands on. Several undos in a row go further
back, ``redo`` comes forward again, and any other change ends that. The idea is jj's.
"""

from __future__ import annotations

from dataclasses import dataclass

from persona.errors import Refusal
from persona.history import refs as refs_
from persona.history.commits import get_text
from persona.history.operations import Operation
from persona.ids import CommitId, OperationId
from persona.repository import Repository, Transaction
from persona.workspace.record import clean_recipe


@dataclass(frozen=True)
class UndoResult:
    """The operation that was taken back or made again, and the refs that moved with it."""

    operation: OperationId
    command: str
    refs: tuple[str, ...]


def undo(repo: Repository, *, command: str = "undo") -> UndoResult:
    """Take back the newest change that still stands."""
    with clean_recipe(repo, command) as (change, _):
        newest = repo.log.to_undo()
        if newest is None:
            raise Refusal("nothing to undo: only the beginning is left", "'persona op log' shows what was done.")
        name, operation = newest
        move(repo, change, operation, 0)
        change.takes_back(name)
        return UndoResult(name, operation.command, tuple(sorted(operation.refs)))


def move(repo: Repository, change: Transaction, operation: Operation, side: int) -> None:
    """Give the operation's refs the values of before (0) or after (1) it, and let the recipe follow HEAD."""
    refs = repo.refs()
    for name, values in operation.refs.items():
        if name.startswith(refs_.MERGES):
            continue  # an unfinished merge is not brought back: its conflicts are settled, or given up
        _check_kept(repo, name, values[side])
        change.set_ref(name, values[side])
        refs[name] = values[side] or ""
    change.set_recipe_text(get_text(repo.objects, repo.commit(refs_.head_commit(refs)).text))


def _check_kept(repo: Repository, name: str, value: str | None) -> None:
    """Raise if a ref would point at a commit that ``gc`` has collected since."""
    if value and not value.startswith(refs_.SYMBOLIC) and CommitId(value) not in repo.objects:
        raise Refusal(
            f"{name} stood on commit {value[:12]}, which gc has collected since", "'persona op log' shows what is left."
        )
