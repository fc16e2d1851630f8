"""Measures, one module each. The file name is the ``kind`` in suites; every module in this folder is found.

    SUMMARY             one line
    VERSION             raised when the numbers change, so that stored results are measured again
    SETTINGS            keys that a suite may set beside ``kind``, ``name`` and ``data``: ``Number``, ``Whole``, ``Choice``,
                        ``Text``, ``Texts``, or a class of its own
    measure(look, rows, settings)
                        returns ``Sums`` over the rows, one for each number of the measure

and if it compares with the base

    refer(look, rows, settings, reference)
                        runs on the base first, and stores what ``measure`` needs in ``reference.file`` and
                        ``reference.facts``; ``measure`` finds it in ``look.reference``

and if not every row or combination of settings is valid

    check(rows, settings, table)
                        raises for what is not, when the suite is read

The docstring gives the formula, its source and units. torch and transformers are imported inside functions, because suites are
read without them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from persona.methods.parts.parameters import Value
from persona.progress import Task
from persona.settings import Spec

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
    "Setting",
    "SettingValue",
    "Sums",
    "Text",
    "Texts",
    "load",
    "names",
    "refers",
]


@dataclass(frozen=True)
class Text:
    """A setting that is a string."""

    summary: str
    default: str = ""

    @property
    def wanted(self) -> str:
        """What a valid value is, in words."""
        return "a non-empty string"

    def checked(self, value: Any) -> str:
        """Return ``value`` if it is valid; raise ValueError with what would be."""
        if not isinstance(value, str) or not value.strip():
            raise ValueError(self.wanted)
        return value


@dataclass(frozen=True)
class Texts:
    """A setting that is a list of different strings."""

    summary: str
    default: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What a valid value is, in words."""
        return 'a list of different strings, such as ["one", "two"]'

    def checked(self, value: Any) -> tuple[str, ...]:
        """Return ``value`` if it is valid; raise ValueError with what would be."""
        fits = isinstance(value, list) and value and all(isinstance(text, str) and text.strip() for text in value)
        if not fits or len(set(value)) < len(value):
            raise ValueError(self.wanted)
        return tuple(value)


SettingValue = Value | tuple[str, ...]
"""Value of a setting."""
Setting = Spec[SettingValue]


@dataclass(frozen=True)
class Sums:
    """One number of a measure: Σ ``totals`` / Σ ``counts`` over examples. ``better`` is "lower", "higher" or None.

    ``replies`` are the prompt and the model's reply of each example, to be kept with the result, if the number judges replies.
    """

    name: str
    better: Better | None
    unit: str
    totals: Sequence[float]
    counts: Sequence[float]
    replies: Sequence[tuple[str, str]] = ()


@dataclass
class Reference:
    """What a measure keeps of the base: large data in a temporary file, the rest in ``facts``."""

    file: BinaryIO
    facts: dict[str, Any] = field(default_factory=dict)


class Reads(Protocol):
    """A readout as measures use it; they know nothing of how it is stored."""

    @property
    def id(self) -> str:
        """Identifies the readout in the suite's digest."""

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of its concepts."""

    @property
    def answers(self) -> bool:
        """Whether it reads only the assistant's tokens."""

    def project(
        self,
        live: LoadedModel,
        tokens: Sequence[Sequence[int]],
        marks: Sequence[Sequence[bool]],
        batch_size: int,
        done: Callable[[int], None],
    ) -> Float32:
        """Project texts on the concepts' directions: fp32 [texts, concepts], in raw units.

        Args:
            live: The model.
            tokens: The texts in tokens.
            marks: For each token whether it counts; used if ``answers``.
            batch_size: Number of texts per batch.
            done: Called with the number of texts after each batch.
        """


@dataclass(frozen=True)
class Look:
    """What a measure works with: the model, the readout if it needs one, and a progress task."""

    live: LoadedModel
    seed: int = 0
    batch_size: int = 8
    reference: Reference | None = None
    task: Task | None = None
    reads: Reads | None = None

    def done(self, rows: int) -> None:
        """Report ``rows`` more rows as done."""
        if self.task is not None:
            self.task.advance(rows)


class Measure(Protocol):
    """The interface of a module of this package."""

    SUMMARY: str
    VERSION: int
    SETTINGS: Mapping[str, Setting]

    def measure(self, look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, SettingValue]) -> Sequence[Sums]:
        """Measure the rows."""


@cache
def names() -> tuple[str, ...]:
    """Names of all measures, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Measure:
    """Import a measure. Errors inside its module are not caught."""
    module: Any = importlib.import_module(f"{__name__}.{name}")
    return cast("Measure", module)


def refers(measure: Measure) -> bool:
    """Whether the measure compares with the base."""
    return hasattr(measure, "refer")
