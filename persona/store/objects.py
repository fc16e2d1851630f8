"""Small canonical objects: bases, vectors, recipes, commits, operations, texts.

An object is JSON with a ``kind`` and a ``version``, encoded canonically: keys sorted by code point, no spaces,
UTF-8 unescaped, numbers as Python's ``repr`` writes them (shortest that reads back), no NaN. Its id is
BLAKE3(b"persona object\\n" + encoding), and it lies, as that very text, in ``objects/<2 hex>/<62 hex>``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import Damaged
from persona.ids import Id, ObjectId, object_digest

VERSION = 1
"""Of the encoding of every kind; a reader refuses what is newer."""

Fields = dict[str, Any]

_REST = re.compile(r"[0-9a-f]{62}")
_COPY_BACK = "Copy the file back from a backup or another copy of the repository."


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The canonical encoding of an object."""
    return canonical({**fields, "kind": kind, "version": VERSION})


def canonical(value: object) -> bytes:
    """Canonical JSON of any value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


class ObjectStore:
    """The ``objects`` folder of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, kind: str, fields: Mapping[str, Any]) -> ObjectId:
        """Keep an object, durably; its id."""
        data = encode(kind, fields)
        name = ObjectId(object_digest(data))
        path = self.path(name)
        with files.translated(path):
            known = path.exists()
        if not known:
            files.make_folder(path.parent)
            files.write_file(path, data)
        return name

    def get(self, name: Id, kind: str) -> Fields:
        """The fields of an object, checked against its id."""
        return _checked(json.loads(self._whole(name, kind)), name, kind)

    def text(self, name: Id, kind: str) -> str:
        """The canonical JSON of an object, checked against its id, for those who want little of much."""
        data = self._whole(name, kind)
        if f'"kind":"{kind}"'.encode() not in data:
            self.get(name, kind)  # says what it is instead
        return data.decode()

    def __contains__(self, name: Id) -> bool:
        path = self.path(name)
        with files.translated(path):
            return path.exists()

    def path(self, name: Id) -> Path:
        """Where an object lies."""
        return self.folder.joinpath(name[:2], name[2:])

    def kind(self, name: Id) -> str:
        """What kind of object ``name`` is."""
        try:
            fields = json.loads(self._read(name, "object"))
        except (ValueError, RecursionError):
            raise self._damaged(name, "object") from None
        if not isinstance(fields, dict):
            raise self._damaged(name, "object")
        return str(fields.get("kind", ""))

    def _read(self, name: Id, kind: str) -> bytes:
        path = self.path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise Damaged(f"{kind} {name.short} is missing: there is no {path}", _COPY_BACK) from None
        except OSError as error:
            raise files.storage_error(error, path) from error

    def _whole(self, name: Id, kind: str) -> bytes:
        data = self._read(name, kind)
        if object_digest(data) != name:
            raise self._damaged(name, kind)
        return data

    def _damaged(self, name: Id, kind: str) -> Damaged:
        return Damaged(f"{kind} {name.short} is damaged: {self.path(name)} does not hash to its name", _COPY_BACK)

    def has_field(self, name: Id, key: str) -> bool:
        """Whether an object has a field, by a quick look at its text, which is not checked; strings escape quotes."""
        return f'"{key}":'.encode() in self._read(name, "object")

    def mentions(self, name: Id, other: Id) -> bool:
        """Whether an object's text has the id ``other``, by a quick look that does not check the text."""
        return f'"{other}"'.encode() in self._read(name, "object")

    def matching(self, prefix: str) -> list[ObjectId]:
        """Ids that begin with ``prefix`` (at least 2 characters), sorted."""
        folder = self.folder / prefix[:2]
        with files.translated(folder):
            if not folder.is_dir():
                return []
            with os.scandir(folder) as entries:  # a recipe of 300 vectors asks 300 times
                names = [entry.name for entry in entries if entry.name.startswith(prefix[2:])]
        return sorted(ObjectId(prefix[:2] + name) for name in names if _REST.fullmatch(name))


def _checked(fields: Fields, name: Id, kind: str) -> Fields:
    if fields.get("version", 0) > VERSION:
        raise Damaged(
            f"{kind} {name.short} was written by a newer persona (object version {fields['version']})",
            "Upgrade persona to read this repository.",
        )
    if fields.get("kind") != kind:
        raise Damaged(
            f"{name.short} is a {fields.get('kind')}, and a {kind} was expected",
            "The reference to it is damaged; 'persona log' shows the commits that can be read.",
        )
    return fields
