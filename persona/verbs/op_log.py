"""``persona op log``: what each command changed, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from persona.history.operations import Change
from persona.ids import OperationId
from persona.repository import Repository


@dataclass(frozen=True)
class OperationEntry:
    """One operation. ``undone`` says that it has been taken back and not been made again."""

    operation: OperationId
    time: str
    command: str
    refs: Mapping[str, Change]
    undoes: OperationId | None
    redoes: OperationId | None
    undone: bool


def op_log(repo: Repository, *, limit: int | None = None) -> list[OperationEntry]:
    """The operation log."""
    return [
        OperationEntry(
            operation=name,
            time=one.time,
            command=one.command,
            refs=one.refs,
            undoes=one.undoes,
            redoes=one.redoes,
            undone=not stands,
        )
        for name, one, stands in islice(repo.log.marked(), limit)
    ]
