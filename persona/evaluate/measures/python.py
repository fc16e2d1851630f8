"""python: a function of your own.

    function = "my-measure"        an entry point of the group ``persona.measures``
    function = "judge:score"       function ``score`` of the module ``judge``, beside the suite or installed

It is called as ``function(live, rows, seed)``: ``live.model`` and ``live.tokenizer`` are transformers objects, ``rows`` the lines of the
data as dicts. It returns a number for each row, or a dict of such lists by name. The result is their mean, with an interval over rows.
``better`` says whether lower or higher is better.

The function is code that runs with your rights, though only when a suite that names it is run: read a suite before you run it. A module
beside the suite is part of the suite's digest; modules that it imports are not. Results of an installed module are kept until the suite
changes.
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
    from persona.evaluate.measures import SettingValue
    from persona.evaluate.rows import SuiteRow
    from persona.history.evaluations import Better
    from persona.methods.parts.parameters import Value

SUMMARY = "A Python function of your own."
VERSION = 2
GROUP = "persona.measures"
SETTINGS: Mapping[str, Setting] = {
    "function": Text("Entry point of the group persona.measures, or module:function."),
    "better": Choice("neither", ("lower", "higher", "neither"), "Whether lower or higher is better."),
    "unit": Text("Unit of the numbers.", "score"),
}
REQUIRED = ("function",)


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """The numbers that the function returns, by name."""
    name = str(settings["function"])
    with importing(name, settings):
        found = call(name, rows, look.live, [dict(row.fields) for row in rows], look.seed)
    better: dict[str, Better | None] = {"lower": "lower", "higher": "higher", "neither": None}
    look.done(len(rows))
    return [
        Sums(key, better[str(settings["better"])], str(settings["unit"]), numbers, [1.0] * len(rows))
        for key, numbers in found.items()
    ]


def importing(name: str, settings: Mapping[str, SettingValue]) -> AbstractContextManager[None]:
    """A context in which the function can be imported from beside the suite."""
    module, colon, _ = name.partition(":")
    if not colon or "folder" not in settings:
        return nullcontext()
    return importable(Path(str(settings["folder"])), module, str(settings["code"]))


def call(name: str, rows: Sequence[SuiteRow], *given: Any) -> dict[str, list[float]]:
    """Call the function ``name`` and return its numbers: lists as long as ``rows``, by name.

    Raises:
        UsageError: it does not exist, fails, or returns something else.
    """
    function = find(name)
    try:
        result = function(*given)
        lists = result if isinstance(result, Mapping) else {"value": result}
        found = {str(key): list(values) if isinstance(values, Iterable) else [] for key, values in lists.items()}
    except Exception as error:
        raise UsageError(f"{name} failed: {type(error).__name__}: {error}", "Fix the function.") from error
    if not found:
        raise UsageError(f"{name} returned no numbers", "It must return one number per row, or a dict of such lists.")
    return {key: _numbers(name, values, rows) for key, values in found.items()}


def _numbers(name: str, values: Sequence[Any], rows: Sequence[SuiteRow]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != len(rows):
        raise UsageError(
            f"{name} returned {len(numbers)} numbers for {len(rows)} rows",
            "It must return one number per row, in the same order.",
        )
    return numbers


def find(name: str) -> Any:
    """Import the function ``module:function``, or load the entry point of that name.

    Raises:
        UsageError: it does not exist, or its module fails.
    """
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
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}", "Fix the module.") from error


def _entry_point(name: str) -> Any:
    known = {point.name: point for point in entry_points(group=GROUP)}
    if name not in known:
        hint = did_you_mean(name, known) or "None is installed. For a function of a module, write module:function."
        raise UsageError(f"there is no entry point '{name}' in the group {GROUP}", hint)
    return known[name].load()
