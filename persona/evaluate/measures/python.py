"""python: a function of your own.

    function = "my-measure"        an entry point of the group ``persona.measures``
    function = "judge:score"       function ``score`` of the module ``judge``: beside the suite, or installed

It is called as ``function(live, rows, seed)``: ``live.model`` and ``live.tokenizer`` are transformers' own, ``rows`` the data's lines
as tables. It gives a number for each row, or a table of such lists by name. The figure is their mean, and the interval is over
rows. ``better`` says which way is good.

It is code, and it runs as you, when the suite that names it is run and never otherwise: read a suite before you run it. A module that lies
beside the suite is a part of the suite's digest, and may import others there, which are not; of an installed one the results are kept
until the suite changes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean
from persona.evaluate.imports import importable
from persona.evaluate.measures import Look, Setting, Sums, Text
from persona.methods.parts.parameters import Choice

if TYPE_CHECKING:
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.methods.parts.parameters import Value

SUMMARY = "A Python function of your own."
VERSION = 1
GROUP = "persona.measures"
SETTINGS: Mapping[str, Setting] = {
    "function": Text("An entry point of the group persona.measures, or module:function."),
    "better": Choice("neither", ("lower", "higher", "neither"), "Which way is good."),
    "unit": Text("What its numbers are of.", "score"),
}
REQUIRED = ("function",)


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """What the function says, by the names that it gives."""
    name = str(settings["function"])
    with _importable(name, settings):
        found = _called(name, look, rows)
    better: dict[str, Better | None] = {"lower": "lower", "higher": "higher", "neither": None}
    look.done(len(rows))
    return [
        Sums(key, better[str(settings["better"])], str(settings["unit"]), numbers, [1.0] * len(rows))
        for key, numbers in found.items()
    ]


def _importable(name: str, settings: Mapping[str, Value]) -> AbstractContextManager[None]:
    """While this lasts, the function can be imported from beside the suite."""
    module, colon, _ = name.partition(":")
    if not colon or "folder" not in settings:
        return nullcontext()
    return importable(Path(str(settings["folder"])), module, str(settings["code"]))


def _called(name: str, look: Look, rows: Sequence[SuiteRow]) -> dict[str, list[float]]:
    """What the function gives, as tables of numbers."""
    function = find(name)
    try:
        said = function(look.live, [dict(row.fields) for row in rows], look.seed)
        tables = said if isinstance(said, Mapping) else {"value": said}
        found = {str(key): list(values) if isinstance(values, Iterable) else [] for key, values in tables.items()}
    except Exception as error:
        raise UsageError(f"{name} failed: {type(error).__name__}: {error}", "Mend the function.") from error
    if not found:
        raise UsageError(f"{name} gave no numbers", "It must give one number for each row, or a table of such lists.")
    return {key: _numbers(name, values, rows) for key, values in found.items()}


def _numbers(name: str, said: Sequence[Any], rows: Sequence[SuiteRow]) -> list[float]:
    try:
        found = [float(value) for value in said]
    except (TypeError, ValueError, OverflowError):
        found = []
    if len(found) != len(rows):
        raise UsageError(
            f"{name} gave {len(found)} numbers for {len(rows)} rows",
            "It must give one number for each row, in their order.",
        )
    return found


def find(name: str) -> Any:
    """The function that ``name`` means."""
    module, colon, attribute = name.partition(":")
    if not colon:
        return _entry_point(name)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{name} cannot be imported: {error}", "Put the module beside the suite, or install it."
        ) from error
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}", "Mend the module.") from error


def _entry_point(name: str) -> Any:
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        hint = did_you_mean(name, known) or "None is installed. A function of a module is written module:function."
        raise UsageError(f"there is no entry point '{name}' of the group {GROUP}", hint)
    return known[name].load()
