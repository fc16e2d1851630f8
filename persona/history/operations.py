"""The operation log: every change to the repository.

    operation   {parent, time, command, refs: {name: [before, after]}, recipe: [before, after] | null, undoes, redoes}

``recipe`` holds text objects of ``persona.toml``; ``undoes`` and ``redoes`` are the operation that this one undoes or
redoes, or null. ``op/head`` names the newest operation, and replacing that file is the commit point. Ref files and
``persona.toml`` follow, and ``op/applied`` is written last. If it differs from ``op/head``, a crash came in between:
readers already see the new refs, and the next command that takes the lock completes the operation. The idea is jj's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.errors import Damaged
from persona.history import refs as refs_
from persona.ids import ObjectId, OperationId
from persona.store.fields import ident, moment, rows, table, text
from persona.store.objects import Fields, ObjectStore, decoding

Change = tuple[str | None, str | None]


@dataclass(frozen=True)
class Operation:
    """One change: the refs and the text of the recipe file, before and after."""

    parent: OperationId | None
    time: str
    command: str
    refs: Mapping[str, Change]
    recipe: tuple[ObjectId | None, ObjectId] | None
    undoes: OperationId | None = None
    redoes: OperationId | None = None

    @property
    def is_step(self) -> bool:
        """Whether it moved HEAD, a branch or a tag, rather than only recording the state of a merge."""
        return any(not ref.startswith(refs_.MERGES) for ref in self.refs)

    @property
    def is_change(self) -> bool:
        """Whether it is a step that is neither an undo nor a redo."""
        return self.is_step and self.undoes is None and self.redoes is None

    def put(self, objects: ObjectStore) -> OperationId:
        """Store the operation and return its id; it takes effect once ``op/head`` names it."""
        fields = {
            "parent": self.parent,
            "time": self.time,
            "command": self.command,
            "refs": {name: list(change) for name, change in self.refs.items()},
            "recipe": list(self.recipe) if self.recipe else None,
            "undoes": self.undoes,
            "redoes": self.redoes,
        }
        return OperationId(objects.put("operation", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: OperationId) -> Operation:
        """Read an operation.

        Raises:
            Damaged: the object is missing, damaged or not a valid operation: it may come from somebody else.
        """
        fields = objects.get(name, "operation")
        with decoding("operation", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Operation:
        """Decode the fields of an object; ValueError or KeyError if they are not an operation's."""
        return cls(
            parent=_operation(fields, "parent"),
            time=moment(fields["time"], "time"),
            command=text(fields["command"], "command"),
            refs={ref: _change(ref, value) for ref, value in table(fields["refs"], "refs").items()},
            recipe=_recipe(fields["recipe"]),
            undoes=_operation(fields, "undoes"),
            redoes=_operation(fields, "redoes"),
        )


def _operation(fields: Fields, key: str) -> OperationId | None:
    return None if fields[key] is None else ident(OperationId, fields[key], key)


def _change(ref: str, value: object) -> Change:
    before, after = (None if one is None else text(one, ref) for one in rows(value, ref, 2))
    refs_.check(ref, before)
    refs_.check(ref, after)
    return before, after


def _recipe(value: object) -> tuple[ObjectId | None, ObjectId] | None:
    if value is None:
        return None
    before, after = rows(value, "recipe", 2)
    return None if before is None else ident(ObjectId, before, "recipe"), ident(ObjectId, after, "recipe")


Named = tuple[OperationId, Operation]


class OperationLog:
    """The ``op`` folder of a repository."""

    def __init__(self, folder: Path, objects: ObjectStore) -> None:
        self.folder = folder
        self.objects = objects

    def head(self) -> OperationId | None:
        """Return the newest operation."""
        return self._read("head")

    def pending(self) -> Operation | None:
        """Return the newest operation if refs and recipe file may not have been updated for it yet."""
        head = self.head()
        if head is None or head == self._read("applied"):
            return None
        return Operation.get(self.objects, head)

    def commit(self, name: OperationId) -> None:
        """Make ``name`` the newest operation. This is the commit point."""
        files.write_file(self.folder / "op" / "head", f"{name}\n".encode())

    def mark_applied(self) -> None:
        """Record that refs and recipe file are up to date with the newest operation."""
        files.write_file(self.folder / "op" / "applied", f"{self.head()}\n".encode())

    def apply_refs(self, operation: Operation) -> None:
        """Write an operation's refs; safe to repeat."""
        for name, (_, after) in sorted(operation.refs.items()):
            refs_.write(self.folder, name, after)

    def walk(self) -> Iterator[tuple[OperationId, Operation]]:
        """Yield all operations, newest first."""
        name = self.head()
        while name is not None:
            operation = Operation.get(self.objects, name)
            yield name, operation
            name = operation.parent

    def marked(self) -> Iterator[tuple[OperationId, Operation, bool]]:
        """Yield all operations, newest first, each with whether it is in effect: not undone, or redone since."""
        in_effect: dict[OperationId, bool] = {}
        for name, operation in self.walk():
            for target, is_redo in ((operation.undoes, False), (operation.redoes, True)):
                if target is not None:
                    in_effect.setdefault(target, is_redo)
            yield name, operation, in_effect.get(name, True)

    def to_undo(self) -> Named | None:
        """Return the operation that the next undo takes back, or None if only the first one is left.

        Operations that move neither HEAD nor a branch or tag (such as starting or aborting a merge) do not count.
        """
        for name, operation, in_effect in self.marked():
            if in_effect and operation.is_change:
                return (name, operation) if operation.parent is not None else None
        return None

    def to_redo(self) -> Named | None:
        """Return the operation that was undone last, or None if it was redone or something else was done since."""
        redone = 0
        for _, operation in self.walk():
            if operation.redoes is not None:
                redone += 1
            elif operation.undoes is None:
                if operation.is_step:
                    return None
            elif redone:
                redone -= 1
            else:
                return operation.undoes, Operation.get(self.objects, operation.undoes)
        return None

    def _read(self, which: str) -> OperationId | None:
        path = self.folder / "op" / which
        line = files.read_line(path)
        try:
            return None if line is None else OperationId(line)
        except ValueError:
            raise Damaged(f"{path} is damaged: it does not hold an id", "Restore the file from a backup.") from None
