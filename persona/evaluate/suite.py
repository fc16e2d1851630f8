"""Suites: what a build is measured by, one TOML file each in ``evals/`` beside ``persona.toml``.

    summary = "Does it still listen?"          optional

    [[measures]]
    kind = "loss"                              a module of ``persona/evaluate/measures/``
    name = "listening"                         optional: what tables call it; its kind unless given
    data = "listening.jsonl"                   JSON lines beside the suite, or elsewhere by a relative path

and the settings of its kind. A suite's digest covers its text, the bytes of its data, the versions of its measures and Python modules
that lie beside it: whatever changes what would be measured makes another suite of it. A readout that a measure reads by is found in
the recipe, and its id then becomes a part of the digest (``Suite.given``).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from persona import files
from persona.errors import UsageError, did_you_mean
from persona.evaluate import measures
from persona.evaluate.imports import file_of
from persona.evaluate.measures import Reads, Said
from persona.evaluate.rows import SuiteRow, read_rows
from persona.ids import blob_id, object_digest
from persona.store.objects import canonical

FOLDER = "evals"
SUFFIX = ".toml"
_HEADER = re.compile(r"^[ \t]*\[\[\s*measures\s*\]\]", re.MULTILINE)


@dataclass(frozen=True)
class SuiteMeasure:
    """One measure of a suite, with its rows read and every setting that it has. ``reads`` is a readout, if it was given one."""

    kind: str
    name: str
    rows: tuple[SuiteRow, ...]
    settings: Mapping[str, Said] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict, compare=False)
    reads: Reads | None = None

    @property
    def module(self) -> measures.Measure:
        """Its code."""
        return measures.load(self.kind)

    def place(self, key: str) -> str:
        """``evals/calm.toml:7``: where the suite says ``key``, or else where it names the measure's kind."""
        return self.lines.get(key, self.lines.get("kind", self.name))


@dataclass(frozen=True)
class Suite:
    """Measures that are run together, under the name of their file."""

    name: str
    path: Path
    digest: str
    measures: tuple[SuiteMeasure, ...]
    summary: str = ""

    @cached_property
    def refers(self) -> bool:
        """Whether a measure compares with the base."""
        return any(measures.refers(one.module) for one in self.measures)

    @property
    def rows(self) -> int:
        """How many rows a model is run over."""
        return sum(len(one.rows) for one in self.measures)

    def given(self, readouts: Mapping[str, Reads]) -> Suite:
        """With readouts for the measures of these names; by another readout it is another suite."""
        if not readouts:
            return self
        ids = {name: one.id for name, one in readouts.items()}
        digest = object_digest(b"persona suite\n" + canonical({"suite": self.digest, "readouts": ids}))
        given = tuple(replace(one, reads=readouts.get(one.name)) for one in self.measures)
        return replace(self, digest=digest, measures=given)

    def limited(self, limit: int | None) -> Suite:
        """With the first ``limit`` rows of each measure."""
        if limit is None:
            return self
        return replace(self, measures=tuple(replace(one, rows=one.rows[:limit]) for one in self.measures))


def names(root: Path) -> tuple[str, ...]:
    """The suites beside a ``persona.toml``, sorted."""
    folder = root / FOLDER
    return tuple(sorted(path.stem for path in folder.glob(f"*{SUFFIX}") if path.is_file())) if folder.is_dir() else ()


def find(root: Path, said: str | Path, cwd: Path) -> Suite:
    """The suite of that name in ``evals/``, or in that file."""
    named = root / FOLDER / f"{said}{SUFFIX}"
    if not isinstance(said, Path) and "/" not in said and named.is_file():
        return read(named)
    path = cwd / said
    if path.is_file():
        return read(path)
    hint = did_you_mean(str(said), names(root))
    raise UsageError(f"no suite '{said}'", hint or f"Write one: {FOLDER}/NAME{SUFFIX} (see the guide, 'Measure').")


def read(path: Path) -> Suite:
    """Read a suite and its data; an error names file, line and key."""
    with files.translated(path):
        data = path.read_bytes()
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "A suite is TOML in UTF-8.") from None
    reader = _Reader(path, text)
    found = tuple(reader.asked(table))
    return Suite(path.stem, path, reader.digest(found), found, reader.summary(table))


class _Reader:
    """One file, and the bytes that it has led to so far."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._blobs: list[str] = [blob_id(text.encode())]

    def digest(self, found: tuple[SuiteMeasure, ...]) -> str:
        """Of all that was read."""
        versions = {one.kind: one.module.VERSION for one in found}
        return object_digest(b"persona suite\n" + canonical({"blobs": self._blobs, "versions": versions}))

    def summary(self, table: Mapping[str, Any]) -> str:
        """What the suite says that it is for."""
        said = table.get("summary", "")
        if not isinstance(said, str):
            raise self._error("summary must be a text", 'Write it in quotes: summary = "…"', key="summary")
        return said

    def asked(self, table: Mapping[str, Any]) -> Iterator[SuiteMeasure]:
        """Its measures, checked."""
        for key in table.keys() - {"summary", "measures"}:
            raise self._error(f"unknown key '{key}'", did_you_mean(key, ("summary", "measures")), key=key)
        said = table.get("measures")
        if not isinstance(said, list) or not said or not all(isinstance(one, dict) for one in said):
            raise self._error(
                "there are no measures in it",
                'Begin one: [[measures]], then kind = "loss" and data = "…".',
                key="measures",
            )
        taken: set[str] = set()
        for number, fields in enumerate(said):
            asked = self._one(number, fields)
            if asked.name in taken:
                raise self._error(
                    f"two measures are called '{asked.name}'", 'Give one another name: name = "…".', number, "name"
                )
            taken.add(asked.name)
            yield asked

    def _one(self, number: int, fields: Mapping[str, Any]) -> SuiteMeasure:
        kind = fields.get("kind")
        if kind not in measures.names():
            what = "a measure without a kind" if kind is None else f"no measure '{kind}'"
            raise self._error(what, did_you_mean(str(kind), measures.names()), number, "kind")
        module = measures.load(str(kind))
        known = {"kind", "name", "data", *module.SETTINGS}
        for key in fields.keys() - known:
            raise self._error(f"{kind} knows no '{key}'", did_you_mean(key, known), number, key)
        name = fields.get("name", kind)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise self._error("name must be a text that is not empty", 'Write name = "…".', number, "name")
        settings = self._settings(number, str(kind), module, fields)
        rows = self._rows(number, str(kind), fields.get("data"))
        lines = {key: f"{self._path}{self._line(number, key)}" for key in fields}
        return SuiteMeasure(str(kind), name, rows, settings, lines)

    def _settings(self, number: int, kind: str, module: measures.Measure, fields: Mapping[str, Any]) -> dict[str, Said]:
        found: dict[str, Said] = {}
        for key, setting in module.SETTINGS.items():
            try:
                found[key] = setting.checked(fields[key]) if key in fields else setting.default
            except ValueError as error:
                raise self._error(
                    f"{key} = {fields[key]!r}: it must be {error}", setting.summary, number, key
                ) from None
        for key in getattr(module, "REQUIRED", ()):
            if key not in fields:
                raise self._error(f"{kind} needs '{key}'", module.SETTINGS[key].summary, number, "kind")
        if kind == "python":
            found["folder"] = str(self._path.parent)
            found["code"] = self._covered(str(found["function"]).partition(":")[0])
        return found

    def _covered(self, module: str) -> str:
        """The digest of a module's file where it lies beside the suite, and is a part of it; or else nothing."""
        beside = file_of(self._path.parent, module)
        if beside is None:
            return ""
        with files.translated(beside):
            self._blobs.append(blob_id(beside.read_bytes()))
        return self._blobs[-1]

    def _rows(self, number: int, kind: str, said: Any) -> tuple[SuiteRow, ...]:
        if not isinstance(said, str) or not said:
            raise self._error(f"{kind} needs data", 'Name a file of JSON lines: data = "….jsonl".', number, "data")
        path = self._path.parent / said
        if not path.is_file():
            beside = [one.name for one in self._path.parent.iterdir() if one.suffix in (".jsonl", ".txt")]
            raise self._error(f"there is no file {path}", did_you_mean(said, beside), number, "data")
        with files.translated(path):
            data = path.read_bytes()
        self._blobs.append(blob_id(data))
        return read_rows(path, data)

    def _error(self, what: str, hint: str, number: int | None = None, key: str = "") -> UsageError:
        return UsageError(f"{self._path}{self._line(number, key)}: {what}", hint)

    def _line(self, number: int | None, key: str) -> str:
        """``:7`` where the key, or else the measure that should have it, stands."""
        headers = [match.start() for match in _HEADER.finditer(self._text)]
        start = headers[number] if number is not None and number < len(headers) else 0
        stop = headers[number + 1] if number is not None and number + 1 < len(headers) else len(self._text)
        found = re.compile(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?\s*[=.\]]", re.MULTILINE).search(
            self._text, start, stop
        )
        if not key or (found is None and number is None):
            return ""
        at = self._text.index(key, found.start()) if found else start
        return f":{self._text.count(chr(10), 0, at) + 1}"
