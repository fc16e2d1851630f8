"""What was measured of a build, kept beside the history: commits and recipes never change for it.

    evaluation   {build, suite, suite_digest, seed, limit, time, made, figures: [{measure, name, better, unit, value, low, high,
                  totals, counts}]}

``build`` names what determines weights, whatever it is called (``recipe.builds``): two commits of one meaning share what was
measured of it, and a comment in ``persona.toml`` forgets nothing. The files

    evaluations/<digest of the build>/<digest of suite, seed, limit and measures' versions>

hold the id of an evaluation each. They make it stay where ``gc`` looks for references; whoever deletes one forgets a result, and
nothing else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from persona import files
from persona.errors import Damaged
from persona.ids import ObjectId
from persona.store.objects import ObjectStore

FOLDER = "evaluations"

Better = Literal["lower", "higher"]


def number_called(measure: str, name: str) -> str:
    """``neutral loss``: what a measure is called in its suite, and which of its numbers this is."""
    return measure if measure == name else f"{measure} {name}"


@dataclass(frozen=True)
class Figure:
    """One number of a measure: Σ ``totals`` / Σ ``counts`` over examples, and its 95 % interval, null where it has none.

    ``better`` says which way is good, null where neither is. Examples are in the order of the suite's data, so those of two
    builds are pairs.
    """

    measure: str
    name: str
    better: Better | None
    unit: str
    value: float
    low: float | None
    high: float | None
    totals: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What it is called in its suite."""
        return self.measure, self.name

    def encode(self) -> dict[str, Any]:
        """As it stands in an object."""
        numbers = {"value": _said(self.value), "low": _said(self.low), "high": _said(self.high)}
        lists = {"totals": [_said(one) for one in self.totals], "counts": [_said(one) for one in self.counts]}
        return {
            "measure": self.measure,
            "name": self.name,
            "better": self.better,
            "unit": self.unit,
            **numbers,
            **lists,
        }

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Figure:
        """From an object."""
        low, high = (None if fields[key] is None else float(fields[key]) for key in ("low", "high"))
        return cls(
            measure=fields["measure"],
            name=fields["name"],
            better=fields["better"],
            unit=fields["unit"],
            value=float(fields["value"]),
            low=low,
            high=high,
            totals=tuple(map(float, fields["totals"])),
            counts=tuple(map(float, fields["counts"])),
        )


def _said(value: float | None) -> float | str | None:
    """A number as canonical JSON can have it: one that is none by name, others to nine digits."""
    if value is None or math.isfinite(value):
        return value if value is None else float(f"{value:.9g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


@dataclass(frozen=True)
class Evaluation:
    """What one suite measured of one build; ``made`` says on what: device, dtype, versions."""

    build: str
    suite: str
    suite_digest: str
    seed: int
    limit: int | None
    time: str
    made: Mapping[str, str]
    figures: tuple[Figure, ...] = field(default=())

    def figure(self, key: tuple[str, str]) -> Figure | None:
        """The figure of that measure and name."""
        return next((one for one in self.figures if one.key == key), None)

    def encode(self) -> dict[str, Any]:
        """As an object has it."""
        return {
            "build": self.build,
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "seed": self.seed,
            "limit": self.limit,
            "time": self.time,
            "made": dict(self.made),
            "figures": [figure.encode() for figure in self.figures],
        }

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Evaluation:
        """From an object."""
        return cls(
            build=fields["build"],
            suite=fields["suite"],
            suite_digest=fields["suite_digest"],
            seed=fields["seed"],
            limit=fields["limit"],
            time=fields["time"],
            made=fields["made"],
            figures=tuple(Figure.decode(one) for one in fields["figures"]),
        )


class Evaluations:
    """The ``evaluations`` folder of a repository."""

    def __init__(self, folder: Path, objects: ObjectStore) -> None:
        self.folder = folder / FOLDER
        self.objects = objects

    def find(self, build: str, key: str) -> Evaluation | None:
        """What is kept of a build under ``key``; None if there is nothing that can be read."""
        return self._read(self.folder / build / key)

    def of(self, build: str) -> tuple[Evaluation, ...]:
        """All that is kept of a build, of each suite the newest whole one, by the suites' names."""
        newest: dict[str, Evaluation] = {}
        for path in self._paths(build):
            found = self._read(path)
            if found is None or found.limit is not None:
                continue
            known = newest.get(found.suite)
            if known is None or found.time > known.time:
                newest[found.suite] = found
        return tuple(newest[name] for name in sorted(newest))

    def builds(self) -> frozenset[str]:
        """The builds of which something is kept, as the names of their folders say."""
        with files.translated(self.folder):
            return frozenset(one.name for one in self.folder.iterdir()) if self.folder.is_dir() else frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever measured here."""
        return not self.folder.is_dir()

    def keep(self, key: str, evaluation: Evaluation) -> ObjectId:
        """Keep it, whole or not at all: the object first, then the file that names it. Needs the lock."""
        name = self._put(evaluation)
        path = self.folder / evaluation.build / key
        if files.read_line(path) != name:
            for folder in (self.folder, path.parent):
                files.make_folder(folder)
            files.write_file(path, f"{name}\n".encode())
        return name

    def _put(self, evaluation: Evaluation) -> ObjectId:
        """An object that is there and damaged is written anew: measuring again heals it."""
        fields = evaluation.encode()
        name = self.objects.put("evaluation", fields)
        try:
            self.objects.get(name, "evaluation")
        except Damaged:
            files.remove_file(self.objects.path(name))
            self.objects.put("evaluation", fields)
        return name

    def _paths(self, build: str) -> Iterable[Path]:
        folder = self.folder / build
        with files.translated(folder):
            return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else ()

    def _read(self, path: Path) -> Evaluation | None:
        """A result that cannot be read is one that has to be measured again."""
        with contextlib.suppress(Damaged, ValueError, KeyError, TypeError):
            line = files.read_line(path)
            return None if line is None else Evaluation.decode(self.objects.get(ObjectId(line), "evaluation"))
        return None
