"""Suites of measures, one TOML file each in ``evals/`` beside ``persona.toml``.

    summary = "Does it still listen?"          optional

    [[measures]]
    kind = "replies"                           a module of ``persona/evaluate/measures/``
    name = "listening"                         optional: its name in tables; by default its kind
    data = "prompts.jsonl"                     JSON lines; a path relative to the suite

and the settings of its kind. A suite's digest covers its text, the contents of its data files, the versions of its measures and the
Python modules beside it: anything that changes what is measured makes it another suite. The id of a readout, which is found in the
recipe, becomes part of the digest later (``Suite.given``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from persona import files
from persona.errors import UsageError, did_you_mean
from persona.evaluate import measures
from persona.evaluate.imports import file_of
from persona.evaluate.measures import Reads, SettingValue
from persona.evaluate.rows import SuiteRow, read_rows
from persona.ids import blob_id, object_digest
from persona.settings import Spec, Table, read_toml, shown
from persona.store.objects import canonical

FOLDER = "evals"
SUFFIX = ".toml"


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
        UsageError: the file is not a suite, or a file that it names cannot be read.
        Storage: the suite itself cannot be read.
    """
    with files.translated(path):
        data = files.read_bytes(path, files.LARGEST_TOML)
    reader = _Reader(path, data)
    table = read_toml(data, str(path), hint="A suite is a TOML file in UTF-8.")
    found = tuple(reader.read(table))
    return Suite(path.stem, path, reader.digest(found), found, table.text("summary", ""))


class _Reader:
    """Reads one suite, and keeps the ids of all files that it leads to."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._blobs: list[str] = [blob_id(data)]

    def digest(self, measures: tuple[SuiteMeasure, ...]) -> str:
        """Return the digest of everything that was read."""
        versions = {measure.kind: measure.module.VERSION for measure in measures}
        return object_digest(b"persona suite\n" + canonical({"blobs": self._blobs, "versions": versions}))

    def read(self, suite: Table) -> Iterator[SuiteMeasure]:
        """Check and yield the measures."""
        suite.allow(("summary", "measures"))
        taken: set[str] = set()
        for table in suite.tables("measures", 'Start one: [[measures]], then kind = "replies" and data = "….jsonl".'):
            measure = self._measure(table)
            if measure.name in taken:
                raise table.error("name", f"two measures are called '{measure.name}'", 'Rename one: name = "…".')
            taken.add(measure.name)
            yield measure

    def _measure(self, table: Table) -> SuiteMeasure:
        kind = table.text("kind", "")
        if kind not in measures.names():
            problem = f"no measure '{kind}'" if "kind" in table else "is missing"
            raise table.error("kind", problem, did_you_mean(kind, measures.names()))
        module = measures.load(kind)
        table.allow(("kind", "name", "data", *module.SETTINGS))
        name = table.text("name", kind, wanted="a string that is not empty", empty=False)
        if not name.isprintable():
            raise table.error("name", f"{shown(name)} has unprintable characters", "Use printable characters.")
        settings = self._settings(table, kind, module)
        rows = self._rows(table)
        if hasattr(module, "check"):
            module.check(rows, settings, table)
        lines = {key: table.place(key) for key in table.values}
        return SuiteMeasure(kind, name, rows, settings, lines)

    def _settings(self, table: Table, kind: str, module: measures.Measure) -> dict[str, SettingValue]:
        specs: Mapping[str, Spec[SettingValue]] = module.SETTINGS
        settings = {key: table.get(key, spec) for key, spec in specs.items()}
        for key in getattr(module, "REQUIRED", ()):
            if key not in table:
                raise table.error(key, f"is missing, and {kind} needs it", module.SETTINGS[key].summary)
        if settings.get("function"):
            settings["folder"] = str(self._path.parent)
            settings["code"] = self._covered(str(settings["function"]).partition(":")[0])
        return settings

    def _covered(self, module: str) -> str:
        """Make a module beside the suite part of its digest; return the file's digest, or "" if there is no such file."""
        path = file_of(self._path.parent, module)
        if path is None:
            return ""
        with files.translated(path):
            self._blobs.append(blob_id(files.read_bytes(path)))
        return self._blobs[-1]

    def _rows(self, table: Table) -> tuple[SuiteRow, ...]:
        name = table.text("data", "", wanted="a file name", empty=False)
        if not name:
            raise table.error("data", "is missing", 'Name a JSON Lines file: data = "….jsonl".')
        path = self._path.parent / name
        if not path.is_file():
            beside = [file.name for file in self._path.parent.iterdir() if file.suffix in (".jsonl", ".txt")]
            raise table.error("data", f"there is no file {path}", did_you_mean(name, beside))
        with files.translated(path):
            data = files.read_bytes(path)
        self._blobs.append(blob_id(data))
        return read_rows(path, data)
