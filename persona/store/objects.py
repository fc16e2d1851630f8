"""Small canonical objects: bases, vectors, recipes, commits, operations, texts.

An object is JSON with a ``kind`` and a ``version``, encoded canonically: keys sorted by code point, no spaces,
UTF-8 unescaped, numbers as Python's ``repr`` writes them (the shortest that round-trips), no NaN. Its id is
BLAKE3(b"persona object\\n" + encoding), and the encoding is stored unchanged in ``objects/<2 hex>/<62 hex>``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import Damaged, Refusal
from persona.ids import Id, ObjectId, object_digest
from persona.store.fields import shown

VERSION = 1
"""Version of the encoding of every kind; newer versions are refused."""

Fields = dict[str, Any]

DEEPEST = 64
"""Lists and tables of an object are nested less deeply."""

LONGEST = 300
"""Digits of a whole number, which then is within the range of floats."""

_REST = re.compile(r"[0-9a-f]{62}")
COPY_BACK = "Restore the file from a backup or another copy of the repository."


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The canonical encoding of an object."""
    return canonical({**fields, "kind": kind, "version": VERSION})


def canonical(value: object) -> bytes:
    """Encode any value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def too_new(what: object, version: str) -> Damaged:
    """The error for data that a newer version of persona wrote."""
    return Damaged(
        f"{what} was written by a newer version of persona ({version})", "Upgrade persona to read this repository."
    )


@contextlib.contextmanager
def decoding(kind: str, name: Id) -> Iterator[None]:
    """Turn errors while decoding an object's fields into Damaged.

    A matching hash says that the bytes are intact, not that persona wrote them.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise not_ours(kind, name, error) from error


def _readable(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The encoding of an object; Refusal if it could not be read again."""
    try:
        data = encode(kind, fields)
        parsed(data)
        return data
    except ValueError as error:
        raise Refusal(
            f"this {kind} cannot be stored: {error}",
            "Look for such values in what it was made from: nothing was changed.",
        ) from None


def not_ours(kind: str, name: Id, why: object) -> Damaged:
    """An error about an object with a right hash that persona would not write."""
    what = f"it lacks {why}" if isinstance(why, KeyError) else str(why)
    return Damaged(
        f"{kind} {name.short} is not a valid {kind}: {what}",
        "persona did not write this object: do not trust the repository that it came from.",
    )


def parsed(data: bytes) -> Any:
    """Decode canonical JSON, and nothing else that JSON readers accept.

    Raises:
        ValueError: it is not canonical, or its lists and tables are nested too deeply.
    """
    try:
        value = json.loads(data, parse_int=_whole)
        if data.count(b"[") + data.count(b"{") > DEEPEST:  # fewer cannot be that deep
            _check_depth(value, DEEPEST)
        if canonical(value) != data:
            raise ValueError("it is not in canonical form")
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    return value


def _whole(digits: str) -> int:
    if len(digits) > LONGEST:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _check_depth(value: object, left: int) -> None:
    if not left:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict | list):
            _check_depth(item, left - 1)


class ObjectStore:
    """The ``objects`` folder of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, kind: str, fields: Mapping[str, Any]) -> ObjectId:
        """Store an object durably and return its id."""
        data = _readable(kind, fields)
        name = ObjectId(object_digest(data))
        path = self.path(name)
        with files.translated(path):
            known = path.exists()
        if not known:
            files.make_folder(path.parent)
            files.write_file(path, data)
        return name

    def get(self, name: Id, kind: str) -> Fields:
        """Read an object's fields.

        Raises:
            Damaged: the object is missing, does not match its id, or is of another kind or a newer version.
        """
        try:
            fields = parsed(self._whole(name, kind))
        except ValueError as error:
            raise not_ours(kind, name, error) from None
        return _checked(fields, name, kind)

    def text(self, name: Id, kind: str) -> str:
        """Read an object as canonical JSON, checked against its id but not parsed: fast for large objects."""
        data = self._whole(name, kind)
        if f'"kind":"{kind}"'.encode() not in data:
            self.get(name, kind)  # raises an error that names the actual kind
        with decoding(kind, name):
            return data.decode()

    def __contains__(self, name: Id) -> bool:
        path = self.path(name)
        with files.translated(path):
            return path.exists()

    def path(self, name: Id) -> Path:
        """The path of an object's file."""
        return self.folder.joinpath(name[:2], name[2:])

    def kind(self, name: Id) -> str:
        """The kind of an object; its content is not checked against its id."""
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
            return files.read_bytes(path, files.LARGEST_JSON)
        except FileNotFoundError:
            raise Damaged(f"{kind} {name.short} is missing: {path} does not exist", COPY_BACK) from None
        except OSError as error:
            raise files.storage_error(error, path) from error

    def _whole(self, name: Id, kind: str) -> bytes:
        data = self._read(name, kind)
        if object_digest(data) != name:
            raise self._damaged(name, kind)
        return data

    def _damaged(self, name: Id, kind: str) -> Damaged:
        return Damaged(f"{kind} {name.short} is damaged: {self.path(name)} does not match its id", COPY_BACK)

    def has_field(self, name: Id, key: str) -> bool:
        """Whether an object has a field, by searching its unchecked text (quotes inside strings are escaped)."""
        return f'"{key}":'.encode() in self._read(name, "object")

    def mentions(self, name: Id, other: Id) -> bool:
        """Whether an object refers to ``other``, by searching its unchecked text."""
        return f'"{other}"'.encode() in self._read(name, "object")

    def matching(self, prefix: str) -> list[ObjectId]:
        """The ids that start with ``prefix`` (at least 2 characters), sorted."""
        folder = self.folder / prefix[:2]
        with files.translated(folder):
            if not folder.is_dir():
                return []
            with os.scandir(folder) as entries:  # scandir is fast enough for recipes of 300 vectors
                names = [entry.name for entry in entries if entry.name.startswith(prefix[2:])]
        return sorted(ObjectId(prefix[:2] + name) for name in names if _REST.fullmatch(name))


def _kind_of(fields: Fields) -> str:
    kind = fields.get("kind")
    return kind if isinstance(kind, str) else shown(kind)


def _checked(fields: Any, name: Id, kind: str) -> Fields:
    version = fields.get("version") if isinstance(fields, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < VERSION:
        raise not_ours(kind, name, "it is not a table with a version")
    if version > VERSION:
        raise too_new(f"{kind} {name.short}", f"object version {shown(version)}")
    if fields.get("kind") != kind:
        raise Damaged(
            f"{name.short} is a {_kind_of(fields)}, expected a {kind}",
            "The reference to it is damaged; run 'persona log' to see the commits that can be read.",
        )
    checked: Fields = fields
    return checked
