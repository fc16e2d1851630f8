"""``persona op log``: the operations, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from persona.history.operations import Change
from persona.ids import OperationId
from persona.repository import Repository


@dataclass(frozen=True)
class OperationEntry:
    """One operation: its command line, and the values of each ref that it changed, before and after.

    ``undoes`` and ``redoes`` are set for an undo or redo. ``undone`` means that it was undone and not redone since.
    """

    operation: OperationId
    time: str
    command: str
    refs: Mapping[str, Change]
    undoes: OperationId | None
    redoes: OperationId | None
    undone: bool


def op_log(repo: Repository, *, limit: int | None = None) -> list[OperationEntry]:
    """Return the operation log, newest first; at most ``limit`` entries."""
    return [
        OperationEntry(
            operation=name,
            time=operation.time,
            command=operation.command,
            refs=operation.refs,
            undoes=operation.undoes,
            redoes=operation.redoes,
            undone=not in_effect,
        )
        for name, operation, in_effect in islice(repo.log.marked(), limit)
    ]
