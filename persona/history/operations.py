"""The operation log: each change to the repository, and the point at which it counts.

    operation   {parent, time, command, refs: {name: [before, after]}, recipe: [before, after] | null, undoes, redoes}

``recipe`` holds text objects of ``persona.toml``; ``undoes`` and ``redoes`` are the operation that this one takes back
or makes again, or null. ``op/head`` names the newest operation: replacing that one file
is the commit point. Ref files and ``persona.toml`` follow, and ``op/applied`` is written last; when it differs
from ``op/head`` a crash fell in between, and the operation is carried to its end by whoever comes next. Until
then readers see its refs as already changed. The idea of the log is jj's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from persona import files
from persona.errors import Damaged
from persona.history import refs as refs_
from persona.ids import ObjectId, OperationId
from persona.store.objects import ObjectStore

Change = tuple[str | None, str | None]


@dataclass(frozen=True)
class Operation:
    """One change: refs before and after, and the recipe file's text before and after."""

    parent: OperationId | None
    time: str
    command: str
    refs: Mapping[str, Change]
    recipe: tuple[ObjectId | None, ObjectId] | None
    undoes: OperationId | None = None
    redoes: OperationId | None = None

    @property
    def is_step(self) -> bool:
        """Whether it moved HEAD, a branch or a tag, and not only a merge that is under way."""
        return any(not ref.startswith(refs_.MERGES) for ref in self.refs)

    @property
    def is_change(self) -> bool:
        """Whether it is a step of its own, and neither takes one back nor makes one again."""
        return self.is_step and self.undoes is None and self.redoes is None

    def put(self, objects: ObjectStore) -> OperationId:
        """Keep it; its id. It counts once ``op/head`` names it."""
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
        """Read it."""
        fields = objects.get(name, "operation")
        recipe = fields["recipe"]
        return cls(
            parent=OperationId(fields["parent"]) if fields["parent"] else None,
            time=fields["time"],
            command=fields["command"],
            refs={name: (change[0], change[1]) for name, change in fields["refs"].items()},
            recipe=(ObjectId(recipe[0]) if recipe[0] else None, ObjectId(recipe[1])) if recipe else None,
            undoes=OperationId(fields["undoes"]) if fields["undoes"] else None,
            redoes=OperationId(fields["redoes"]) if fields["redoes"] else None,
        )


Named = tuple[OperationId, Operation]


class OperationLog:
    """The ``op`` folder of a repository."""

    def __init__(self, folder: Path, objects: ObjectStore) -> None:
        self.folder = folder
        self.objects = objects

    def head(self) -> OperationId | None:
        """The newest operation that counts."""
        return self._read("head")

    def pending(self) -> Operation | None:
        """The newest operation if refs and recipe file may not have followed it yet."""
        head = self.head()
        if head is None or head == self._read("applied"):
            return None
        return Operation.get(self.objects, head)

    def commit(self, name: OperationId) -> None:
        """The commit point: from here on the operation has happened."""
        files.write_file(self.folder / "op" / "head", f"{name}\n".encode())

    def mark_applied(self) -> None:
        """Say that refs and recipe file have followed the newest operation."""
        files.write_file(self.folder / "op" / "applied", f"{self.head()}\n".encode())

    def apply_refs(self, operation: Operation) -> None:
        """Write an operation's refs; doing it twice does no harm."""
        for name, (_, after) in sorted(operation.refs.items()):
            refs_.write(self.folder, name, after)

    def walk(self) -> Iterator[tuple[OperationId, Operation]]:
        """Operations, newest first."""
        name = self.head()
        while name is not None:
            operation = Operation.get(self.objects, name)
            yield name, operation
            name = operation.parent

    def marked(self) -> Iterator[tuple[OperationId, Operation, bool]]:
        """Operations, newest first, and whether each stands: what was taken back and not made again does not."""
        stands: dict[OperationId, bool] = {}
        for name, operation in self.walk():
            for taken, back in ((operation.undoes, False), (operation.redoes, True)):
                if taken is not None:
                    stands.setdefault(taken, back)
            yield name, operation, stands.get(name, True)

    def to_undo(self) -> Named | None:
        """The newest operation that stands; None if that is the first one, before which there is nothing.

        What moves no branch, tag or HEAD (conflicts written, a merge begun or given up) does not count.
        """
        for name, operation, stands in self.marked():
            if stands and operation.is_change:
                return (name, operation) if operation.parent is not None else None
        return None

    def to_redo(self) -> Named | None:
        """The operation that was taken back last; None if it was made again, or something else was done since."""
        again = 0
        for _, operation in self.walk():
            if operation.redoes is not None:
                again += 1
            elif operation.undoes is None:
                if operation.is_step:
                    return None
            elif again:
                again -= 1
            else:
                return operation.undoes, Operation.get(self.objects, operation.undoes)
        return None

    def _read(self, which: str) -> OperationId | None:
        path = self.folder / "op" / which
        line = files.read_line(path)
        try:
            return None if line is None else OperationId(line)
        except ValueError:
            raise Damaged(f"{path} is damaged: it holds no id", "Copy the file back from a backup.") from None
