"""Measures: one module each, found by being in this folder. Its file name is what a suite calls its ``kind``.

    SUMMARY             one line
    VERSION             grows when the numbers come out otherwise: what was kept before is then measured again
    SETTINGS            what a suite may say beside ``kind``, ``name`` and ``data``: ``Number``, ``Whole``, ``Choice``, ``Text``,
                        ``Texts``
    measure(look, rows, settings)
                        ``Sums`` over the rows; one for each number that it gives

and where it compares with the base

    refer(look, rows, settings, reference)
                        run on the base before: what ``measure`` will need of it, into ``reference.file`` and ``reference.facts``;
                        ``measure`` then finds it in ``look.reference``

The docstring gives the formula, its source and units. torch and transformers are imported inside of functions, because suites are
read without them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from persona.methods.parts.parameters import Choice, Number, Value, Whole
from persona.progress import Task

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.inference.load import LoadedModel

__all__ = [
    "Look",
    "Measure",
    "Reads",
    "Reference",
    "Said",
    "Setting",
    "Sums",
    "Text",
    "Texts",
    "load",
    "names",
    "refers",
]


@dataclass(frozen=True)
class Text:
    """A text."""

    summary: str
    default: str = ""

    @property
    def wanted(self) -> str:
        """What may be given, as a person says it."""
        return "a text that is not empty"

    def checked(self, value: Any) -> str:
        """``value`` if it fits; ValueError says what does."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError(self.wanted)
        return value


@dataclass(frozen=True)
class Texts:
    """A list of texts, none of them twice."""

    summary: str
    default: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What may be given, as a person says it."""
        return 'a list of texts that differ, such as ["one", "two"]'

    def checked(self, value: Any) -> tuple[str, ...]:
        """``value`` if it fits; ValueError says what does."""
        fits = isinstance(value, list) and value and all(isinstance(one, str) and one.strip() for one in value)
        if not fits or len(set(value)) < len(value):
            raise ValueError(self.wanted)
        return tuple(value)


Setting = Number | Whole | Choice | Text | Texts
Said = Value | tuple[str, ...]
"""What a suite said of a setting."""


@dataclass(frozen=True)
class Sums:
    """A number of a measure: Σ ``totals`` / Σ ``counts`` over examples; ``better`` is "lower", "higher" or None."""

    name: str
    better: Better | None
    unit: str
    totals: Sequence[float]
    counts: Sequence[float]


@dataclass
class Reference:
    """What a measure keeps of the base: much in a file that has no name, little in a table."""

    file: BinaryIO
    facts: dict[str, Any] = field(default_factory=dict)


class Reads(Protocol):
    """A readout, as whoever knows readouts hands it to a measure: what a model reads as, for each of some ``concepts``.

    ``id`` names all that it depends on. ``answers`` says whether it reads the assistant's tokens alone.
    """

    @property
    def id(self) -> str:
        """What results are kept by."""

    @property
    def concepts(self) -> tuple[str, ...]:
        """What it reads."""

    @property
    def answers(self) -> bool:
        """Whether only marked tokens count."""

    def project(
        self,
        live: LoadedModel,
        tokens: Sequence[Sequence[int]],
        marks: Sequence[Sequence[bool]],
        batch_size: int,
        done: Callable[[int], None],
    ) -> Float32:
        """Of each text in tokens the projections in raw units, fp32 [texts, concepts]; ``done`` hears of each batch."""


@dataclass(frozen=True)
class Look:
    """A model to be measured, and the readout that the measure was promised. ``task`` hears of every row that is done."""

    live: LoadedModel
    seed: int = 0
    batch_size: int = 8
    reference: Reference | None = None
    task: Task | None = None
    reads: Reads | None = None

    def done(self, rows: int) -> None:
        """So many rows more."""
        if self.task is not None:
            self.task.advance(rows)


class Measure(Protocol):
    """A module of this package."""

    SUMMARY: str
    VERSION: int
    SETTINGS: Mapping[str, Setting]

    def measure(self, look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Said]) -> Sequence[Sums]:
        """What it finds."""


@cache
def names() -> tuple[str, ...]:
    """All measures, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Measure:
    """One measure; an error inside its module is raised as it is."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast("Measure", module)


def refers(measure: Measure) -> bool:
    """Whether it compares with the base."""
    return hasattr(measure, "refer")
