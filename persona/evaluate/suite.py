"""Suites of measures, one TOML file each in ``evals/`` beside ``persona.toml``.

    summary = "Does it still listen?"          optional

    [[measures]]
    kind = "loss"                              a module of ``persona/evaluate/measures/``
    name = "listening"                         optional: its name in tables; by default its kind
    data = "listening.jsonl"                   JSON lines; a path relative to the suite

and the settings of its kind. A suite's digest covers its text, the contents of its data files, the versions of its measures and the
Python modules beside it: anything that changes what is measured makes it another suite. The id of a readout, which is found in the
recipe, becomes part of the digest later (``Suite.given``).
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
from persona.evaluate.measures import Reads, SettingValue
from persona.evaluate.rows import SuiteRow, read_rows
from persona.ids import blob_id, object_digest
from persona.store.objects import canonical

FOLDER = "evals"
SUFFIX = ".toml"
_HEADER = re.compile(r"^[ \t]*\[\[\s*measures\s*\]\]", re.MULTILINE)


@dataclass(frozen=True)
class SuiteMeasure:
    """One measure of a suite, with its rows and all its settings.

    ``lines`` says where in the file each key is. ``reads`` is the readout that the measure uses, if any.
    """

    kind: str
    name: str
    rows: tuple[SuiteRow, ...]
    settings: Mapping[str, SettingValue] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict, compare=False)
    reads: Reads | None = None

    @property
    def module(self) -> measures.Measure:
        """The module that implements it."""
        return measures.load(self.kind)

    def place(self, key: str) -> str:
        """``evals/calm.toml:7``: the line of ``key``, or of the measure's kind if it does not set ``key``."""
        return self.lines.get(key, self.lines.get("kind", self.name))


@dataclass(frozen=True)
class Suite:
    """Measures that are run together, named after their file."""

    name: str
    path: Path
    digest: str
    measures: tuple[SuiteMeasure, ...]
    summary: str = ""

    @cached_property
    def refers(self) -> bool:
        """Whether one of its measures compares with the base."""
        return any(measures.refers(measure.module) for measure in self.measures)

    @property
    def rows(self) -> int:
        """The number of rows of all measures."""
        return sum(len(measure.rows) for measure in self.measures)

    def given(self, readouts: Mapping[str, Reads]) -> Suite:
        """The suite with readouts for the measures of these names; they are part of its digest."""
        if not readouts:
            return self
        ids = {name: readout.id for name, readout in readouts.items()}
        digest = object_digest(b"persona suite\n" + canonical({"suite": self.digest, "readouts": ids}))
        given = tuple(replace(measure, reads=readouts.get(measure.name)) for measure in self.measures)
        return replace(self, digest=digest, measures=given)

    def limited(self, limit: int | None) -> Suite:
        """The suite with only the first ``limit`` rows of each measure; all if None."""
        if limit is None:
            return self
        return replace(self, measures=tuple(replace(measure, rows=measure.rows[:limit]) for measure in self.measures))


def names(root: Path) -> tuple[str, ...]:
    """Names of the suites in a repository, sorted."""
    folder = root / FOLDER
    return tuple(sorted(path.stem for path in folder.glob(f"*{SUFFIX}") if path.is_file())) if folder.is_dir() else ()


def find(root: Path, spec: str | Path, cwd: Path) -> Suite:
    """Read a suite by its name in ``evals/``, or by its file relative to ``cwd``.

    Raises:
        UsageError: it does not exist, or is not a valid suite.
    """
    named = root / FOLDER / f"{spec}{SUFFIX}"
    if not isinstance(spec, Path) and "/" not in spec and named.is_file():
        return read(named)
    path = cwd / spec
    if path.is_file():
        return read(path)
    hint = did_you_mean(str(spec), names(root))
    raise UsageError(
        f"there is no suite '{spec}'", hint or f"Write one: {FOLDER}/NAME{SUFFIX} (see the guide, 'Measure')."
    )


def read(path: Path) -> Suite:
    """Read a suite and its data.

    Raises:
        UsageError: the file is not a valid suite; the message names file, line and key.
    """
    with files.translated(path):
        data = path.read_bytes()
    try:
        text = data.decode()
        table = tomllib.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "A suite must be TOML in UTF-8.") from None
    reader = _Reader(path, text)
    found = tuple(reader.read_measures(table))
    return Suite(path.stem, path, reader.digest(found), found, reader.summary(table))


class _Reader:
    """Reads one suite, and remembers the digests of all files that belong to it."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._blobs: list[str] = [blob_id(text.encode())]

    def digest(self, found: tuple[SuiteMeasure, ...]) -> str:
        """The suite's digest, once all its measures are read."""
        versions = {measure.kind: measure.module.VERSION for measure in found}
        return object_digest(b"persona suite\n" + canonical({"blobs": self._blobs, "versions": versions}))

    def summary(self, table: Mapping[str, Any]) -> str:
        """The suite's description."""
        summary = table.get("summary", "")
        if not isinstance(summary, str):
            raise self._error("summary must be a string", 'Write it in quotes: summary = "…"', key="summary")
        return summary

    def read_measures(self, table: Mapping[str, Any]) -> Iterator[SuiteMeasure]:
        """Read and check all measures."""
        for key in table.keys() - {"summary", "measures"}:
            raise self._error(f"unknown key '{key}'", did_you_mean(key, ("summary", "measures")), key=key)
        entries = table.get("measures")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise self._error(
                "the suite has no measures",
                'Add one: [[measures]], then kind = "loss" and data = "…".',
                key="measures",
            )
        taken: set[str] = set()
        for number, fields in enumerate(entries):
            measure = self._measure(number, fields)
            if measure.name in taken:
                raise self._error(
                    f"two measures are called '{measure.name}'", 'Rename one of them: name = "…".', number, "name"
                )
            taken.add(measure.name)
            yield measure

    def _measure(self, number: int, fields: Mapping[str, Any]) -> SuiteMeasure:
        kind = fields.get("kind")
        if kind not in measures.names():
            what = "the measure has no kind" if kind is None else f"there is no measure '{kind}'"
            raise self._error(what, did_you_mean(str(kind), measures.names()), number, "kind")
        module = measures.load(str(kind))
        known = {"kind", "name", "data", *module.SETTINGS}
        for key in fields.keys() - known:
            raise self._error(f"{kind} has no setting '{key}'", did_you_mean(key, known), number, key)
        name = fields.get("name", kind)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise self._error("name must be a non-empty string", 'Write name = "…".', number, "name")
        settings = self._settings(number, str(kind), module, fields)
        rows = self._rows(number, str(kind), fields.get("data"))
        lines = {key: f"{self._path}{self._line(number, key)}" for key in fields}
        return SuiteMeasure(str(kind), name, rows, settings, lines)

    def _settings(
        self, number: int, kind: str, module: measures.Measure, fields: Mapping[str, Any]
    ) -> dict[str, SettingValue]:
        settings: dict[str, SettingValue] = {}
        for key, setting in module.SETTINGS.items():
            try:
                settings[key] = setting.checked(fields[key]) if key in fields else setting.default
            except ValueError as error:
                raise self._error(f"{key} = {fields[key]!r} must be {error}", setting.summary, number, key) from None
        for key in getattr(module, "REQUIRED", ()):
            if key not in fields:
                raise self._error(f"{kind} needs '{key}'", module.SETTINGS[key].summary, number, "kind")
        if kind == "python":
            settings["folder"] = str(self._path.parent)
            settings["code"] = self._covered(str(settings["function"]).partition(":")[0])
        return settings

    def _covered(self, module: str) -> str:
        """Make a module beside the suite part of its digest; return the file's digest, or "" if there is no such file."""
        path = file_of(self._path.parent, module)
        if path is None:
            return ""
        with files.translated(path):
            self._blobs.append(blob_id(path.read_bytes()))
        return self._blobs[-1]

    def _rows(self, number: int, kind: str, name: Any) -> tuple[SuiteRow, ...]:
        if not isinstance(name, str) or not name:
            raise self._error(f"{kind} needs data", 'Name a file of JSON lines: data = "….jsonl".', number, "data")
        path = self._path.parent / name
        if not path.is_file():
            beside = [file.name for file in self._path.parent.iterdir() if file.suffix in (".jsonl", ".txt")]
            raise self._error(f"there is no file {path}", did_you_mean(name, beside), number, "data")
        with files.translated(path):
            data = path.read_bytes()
        self._blobs.append(blob_id(data))
        return read_rows(path, data)

    def _error(self, what: str, hint: str, number: int | None = None, key: str = "") -> UsageError:
        return UsageError(f"{self._path}{self._line(number, key)}: {what}", hint)

    def _line(self, number: int | None, key: str) -> str:
        """``:7``, the line of a key, or of the measure that should have it."""
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
