"""Results of evaluation suites, stored beside the history so that commits and recipes never change for them.

    evaluation   {build, suite, suite_digest, seed, limit, time, made, figures: [{measure, name, better, unit, value, low, high,
                  totals, counts}], replies?}

``build`` is a digest of everything that determines the weights (see ``recipe.builds``): commits with the same weights
share results, and a changed comment in ``persona.toml`` discards none. The files

    evaluations/<digest of the build>/<digest of suite, seed, limit and measures' versions>

hold the id of one evaluation each, which also keeps it from being collected by ``gc``. Deleting a file forgets that
result and nothing else. A file in the folder of another build than its evaluation's counts as absent.

``replies`` is the id of a text, for suites that judge what the model says: JSON lines of {measure, prompt, reply, score}, in the order of
the data (``Said``). It is an object of its own, so that ``log`` does not read it.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from persona import files
from persona.errors import Damaged
from persona.ids import ObjectId
from persona.store.fields import count, ident, moment, number, rows, shown, table, text, whole
from persona.store.objects import ObjectStore

FOLDER = "evaluations"

Better = Literal["lower", "higher"]


def number_called(measure: str, name: str) -> str:
    """Return the full name of a number, such as ``neutral loss``: its measure and its own name, where they differ."""
    return measure if measure == name else f"{measure} {name}"


@dataclass(frozen=True)
class Figure:
    """One number of a measure: Σ ``totals`` / Σ ``counts`` over examples, with its 95 % interval, null if it has none.

    ``better`` is the direction of improvement, null if there is none. Examples are in the order of the suite's data,
    so the lists of two builds can be compared pair by pair.
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
        """The measure's name in the suite and the number's own name."""
        return self.measure, self.name

    def encode(self) -> dict[str, Any]:
        """Encode the figure for an object."""
        return {
            "measure": self.measure,
            "name": self.name,
            "better": self.better,
            "unit": self.unit,
            "value": _encoded(self.value),
            "low": _encoded(self.low),
            "high": _encoded(self.high),
            "totals": [_encoded(total) for total in self.totals],
            "counts": [_encoded(count) for count in self.counts],
        }

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Figure:
        """Decode the figure from an object."""
        fields = table(fields, "a figure")
        better: Better | None = fields["better"]
        if better not in ("lower", "higher", None):
            raise ValueError(f"better is {shown(better)}")
        totals, counts = (rows(fields[key], key) for key in ("totals", "counts"))
        if len(totals) != len(counts):
            raise ValueError(f"a figure has {len(totals)} totals and {len(counts)} counts")
        return cls(
            measure=text(fields["measure"], "measure"),
            name=text(fields["name"], "name"),
            better=better,
            unit=text(fields["unit"], "unit"),
            value=_decoded(fields["value"], "value"),
            low=None if fields["low"] is None else _decoded(fields["low"], "low"),
            high=None if fields["high"] is None else _decoded(fields["high"], "high"),
            totals=tuple(_decoded(value, "a total") for value in totals),
            counts=tuple(_decoded(value, "a count") for value in counts),
        )


def _encoded(value: float | None) -> float | str | None:
    """Encode a number for canonical JSON: nine digits, and names for NaN and infinities."""
    if value is None or math.isfinite(value):
        return value if value is None else float(f"{value:.9g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_NAMED = ("NaN", "Infinity", "-Infinity")
"""How numbers that are not finite are written."""


def _decoded(value: object, what: str) -> float:
    return float(value) if isinstance(value, str) and value in _NAMED else float(number(value, what))


MOST_REPLIES = 200
"""Number of replies kept of each measure: the first of its data."""
LONGEST = 4000
"""Number of characters kept of a prompt and of a reply."""


@dataclass(frozen=True)
class Said:
    """A model's reply to one prompt of a measure, and its score: 1 if it meets the measure's rule, 0 if not."""

    measure: str
    prompt: str
    reply: str
    score: float


def text_of(replies: Iterable[Said]) -> str:
    """The text that keeps replies."""
    lines = (
        {"measure": one.measure, "prompt": one.prompt[:LONGEST], "reply": one.reply[:LONGEST], "score": one.score}
        for one in replies
    )
    # Escaped as ASCII, because a reply may have half a character of UTF-16, which no file can hold.
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def _said(line: str) -> Said:
    fields = json.loads(line)
    measure, prompt, reply = (text(fields[key], key) for key in ("measure", "prompt", "reply"))
    return Said(measure, prompt, reply, float(number(fields["score"], "score")))


@dataclass(frozen=True)
class Evaluation:
    """The results of one suite for one build.

    ``made`` has the device, dtype and versions used; ``replies`` is the id of the text that keeps what the model said.
    """

    build: str
    suite: str
    suite_digest: str
    seed: int
    limit: int | None
    time: str
    made: Mapping[str, str]
    figures: tuple[Figure, ...] = field(default=())
    replies: ObjectId | None = None

    def figure(self, key: tuple[str, str]) -> Figure | None:
        """Return the figure with this key, or None."""
        return next((figure for figure in self.figures if figure.key == key), None)

    def encode(self) -> dict[str, Any]:
        """Encode the evaluation for an object."""
        return {
            "build": self.build,
            "suite": self.suite,
            "suite_digest": self.suite_digest,
            "seed": self.seed,
            "limit": self.limit,
            "time": self.time,
            "made": dict(self.made),
            "figures": [figure.encode() for figure in self.figures],
            **({"replies": self.replies} if self.replies is not None else {}),
        }

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Evaluation:
        """Decode the evaluation from an object."""
        made = table(fields["made"], "made").items()
        return cls(
            build=ident(ObjectId, fields["build"], "build"),
            suite=text(fields["suite"], "suite"),
            suite_digest=ident(ObjectId, fields["suite_digest"], "suite_digest"),
            seed=whole(fields["seed"], "seed"),
            limit=None if fields["limit"] is None else count(fields["limit"], "limit"),
            time=moment(fields["time"], "time"),
            made={key: text(value, key) for key, value in made},
            figures=tuple(map(Figure.decode, rows(fields["figures"], "figures"))),
            replies=ident(ObjectId, fields["replies"], "replies") if "replies" in fields else None,
        )


class Evaluations:
    """The ``evaluations`` folder of a repository."""

    def __init__(self, folder: Path, objects: ObjectStore) -> None:
        self.folder = folder / FOLDER
        self.objects = objects

    def find(self, build: str, key: str) -> Evaluation | None:
        """Return the evaluation of a build under ``key``, or None if there is none that can be read."""
        return self._read(build, self.folder / build / key)

    def of(self, build: str) -> tuple[Evaluation, ...]:
        """Return the newest complete evaluation of each suite for a build, sorted by suite."""
        newest: dict[str, Evaluation] = {}
        for path in self._paths(build):
            evaluation = self._read(build, path)
            if evaluation is None or evaluation.limit is not None:
                continue
            known = newest.get(evaluation.suite)
            if known is None or evaluation.time > known.time:
                newest[evaluation.suite] = evaluation
        return tuple(newest[name] for name in sorted(newest))

    def replies(self, evaluation: Evaluation) -> tuple[Said, ...] | None:
        """Return what the model said, or None if it was not kept or cannot be read."""
        with contextlib.suppress(Damaged, ValueError, KeyError, TypeError):
            if evaluation.replies is not None:
                kept = text(self.objects.get(evaluation.replies, "text")["text"], "text")
                return tuple(map(_said, kept.splitlines()))
        return None

    def builds(self) -> frozenset[str]:
        """Return the digests of all builds that have a folder here."""
        with files.translated(self.folder):
            return frozenset(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether no evaluation was ever stored."""
        return not self.folder.is_dir()

    def keep(self, key: str, evaluation: Evaluation, replies: Iterable[Said] = ()) -> ObjectId:
        """Store an evaluation, first the objects and then the file that names it; requires the lock."""
        if text := text_of(replies):
            evaluation = replace(evaluation, replies=self._put("text", {"text": text}))
        name = self._put("evaluation", evaluation.encode())
        path = self.folder / evaluation.build / key
        if files.read_line(path) != name:
            for folder in (self.folder, path.parent):
                files.make_folder(folder)
            files.write_file(path, f"{name}\n".encode())
        return name

    def _put(self, kind: str, fields: Mapping[str, Any]) -> ObjectId:
        """Store an object; one that is damaged is written again, so that a new measurement repairs it."""
        name = self.objects.put(kind, fields)
        try:
            self.objects.get(name, kind)
        except Damaged:
            files.remove_file(self.objects.path(name))
            self.objects.put(kind, fields)
        return name

    def _paths(self, build: str) -> Iterable[Path]:
        folder = self.folder / build
        with files.translated(folder):
            return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else ()

    def _read(self, build: str, path: Path) -> Evaluation | None:
        """Read one evaluation; None if it cannot be read or is of another build, so that it is measured again."""
        with contextlib.suppress(Damaged, ValueError, KeyError):
            line = files.read_line(path)
            found = None if line is None else Evaluation.decode(self.objects.get(ObjectId(line), "evaluation"))
            return found if found is not None and found.build == build else None
        return None
