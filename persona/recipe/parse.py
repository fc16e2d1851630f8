"""Read ``persona.toml`` into a :class:`Recipe`. Nothing in the file is ignored: an unknown key is an error.

Every error names the file, the line and the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from persona import methods
from persona.errors import RecipeError, UsageError, did_you_mean
from persona.methods.parts.parameters import Value
from persona.recipe.alphas import Alpha
from persona.recipe.choices import FILES, SETTINGS, parse_choices
from persona.recipe.model import NAME, Entry, ReadoutEntry, Recipe
from persona.settings import Number, Spec, Table, read_toml, shown

FILE = "persona.toml"

LARGEST = 1e9
"""Largest alpha or scale: the product of two and any plausible weight stays far below fp32's 3.4e38."""

_SCALE = Number(1.0, -LARGEST, LARGEST, "Use a finite number.")
TAKEN = {"base": "the base, in [files] and [config] of persona.toml", "HEAD": "the current commit"}
"""Names that no new vector or readout may have, and what they mean."""

_ID = re.compile(r"[0-9a-f]{4,64}")
_CONFLICT = re.compile(r"<{7} |\|{7} |={7}$|>{7} ")
_TOP = ("base", "merge", FILES, SETTINGS, "vectors", "readouts")
_BASE = ("name", "id")
_VECTOR = ("id", "alpha", "node", "only", "except", "fisher")


def checked_vector_name(name: str, what: str = "vector") -> str:
    """Return `name` if a vector, or a readout, may have it.

    Raises:
        UsageError: it may not.
    """
    if name in TAKEN:
        raise UsageError(f"'{name}' cannot be the name of a {what}: it means {TAKEN[name]}", "Pass another: --as NAME")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is not a valid {what} name",
            "Pass --as NAME: up to 64 letters, digits, '-' and '_', not starting with '-'.",
        )
    return name


def parse(text: str, where: str = FILE) -> Recipe:
    """Read a recipe. Ids stay as they are typed.

    Args:
        text: The TOML.
        where: Name of the file, for errors.

    Raises:
        RecipeError: `text` is not TOML, or not a recipe.
    """
    return _parsed(text, where)


@lru_cache(maxsize=8)  # a command often reads persona.toml, and HEAD's, which is the same
def _parsed(text: str, where: str) -> Recipe:
    top = _read(text, where)
    top.allow(_TOP)
    base = top.table("base")
    base.allow(_BASE)
    method, scale, parameters = _parse_merge(top.table("merge", optional=True))
    vectors = top.table("vectors", optional=True)
    readouts = top.table("readouts", optional=True)
    recipe = Recipe(
        base=_id(base, "id"),
        base_name=base.text("name", ""),
        vectors=tuple(_parse_vector(vectors, name, method, parameters) for name in vectors.values),
        method=method,
        scale=scale,
        parameters=parameters,
        choices=parse_choices(
            top.table(FILES, optional=True), top.table(SETTINGS, optional=True), tuple(vectors.values)
        ),
    )
    return recipe.with_readouts(_parse_readout(readouts, name, vectors) for name in readouts.values)


def _read(text: str, where: str) -> Table:
    try:
        return read_toml(text, where, RecipeError, "Fix the line. To discard all edits instead: persona restore")
    except RecipeError:
        marks = marked_lines(text)
        if not marks:
            raise
        raise RecipeError(
            f"{where}:{marks[0]}: unresolved merge conflict",
            f"Choose between the lines of {'<' * 7} and {'>' * 7}, remove the markers, then run: persona commit",
        ) from None


def marked_lines(text: str) -> list[int]:
    """Return the lines (from 1) that hold merge conflict markers (see ``markers``)."""
    return [number for number, line in enumerate(text.splitlines(), 1) if _CONFLICT.match(line)]


def _parse_merge(merge: Table) -> tuple[str, float, dict[str, Value]]:
    known = (*methods.names(), *methods.ALIASES)
    name = merge.text("method", "linear") or "linear"
    if name not in known:
        raise merge.error("method", f"unknown method '{name}'", did_you_mean(name, known) or "See 'persona methods'.")
    method = methods.ALIASES.get(name, name)
    declared = methods.load(method).PARAMETERS
    merge.allow(("method", "scale", *declared))
    scale = merge.get("scale", _SCALE)
    parameters = _parse_parameters(merge, declared)
    _check_together(merge, method, parameters)
    return method, scale, parameters


def _parse_parameters(table: Table, declared: Mapping[str, Spec[Value]]) -> dict[str, Value]:
    return {name: table.get(name, parameter) for name, parameter in declared.items() if name in table}


def _check_together(table: Table, method: str, *given: Mapping[str, Value]) -> None:
    """Raise if values that are each in their range do not fit each other."""
    module = methods.load(method)
    problem = methods.complaint(module, methods.settings(module.PARAMETERS, *given))
    if problem is not None:
        raise table.error(next(iter(given[-1]), "method"), problem, f"See 'persona methods {method}'.")


def _parse_vector(vectors: Table, name: str, method: str, common: Mapping[str, Value]) -> Entry:
    entry = _named(vectors, name, "vector")
    own = {key: parameter for key, parameter in methods.load(method).PARAMETERS.items() if parameter.per_vector}
    entry.allow((*_VECTOR, *own))
    parameters = _parse_parameters(entry, own)
    if parameters:
        _check_together(entry, method, common, parameters)
    return Entry(
        name=name,
        id=_id(entry, "id"),
        alpha=_alpha(entry),
        node=entry.text("node", None),
        only=entry.texts("only", _PATTERNS),
        excepted=entry.texts("except", _PATTERNS),
        parameters=parameters,
        fisher=_id(entry, "fisher") if "fisher" in entry else None,
    )


_PATTERNS = 'a list of patterns, such as ["*.mlp.*"]'


def _parse_readout(readouts: Table, name: str, vectors: Table) -> ReadoutEntry:
    if name in vectors.values:
        raise readouts.error(name, "a vector has this name", "Rename one of them: a name can stand for one thing only.")
    entry = _named(readouts, name, "readout")
    entry.allow(("id",))
    return ReadoutEntry(name, _id(entry, "id"))


def _named(tables: Table, name: str, what: str) -> Table:
    """Return the table of a vector or readout, if its name is valid."""
    if not NAME.fullmatch(name):
        raise tables.error(name, f"not a valid {what} name", "Use letters, digits, '-' and '_', 64 at most.")
    return tables.table(name)


def _alpha(entry: Table) -> Alpha:
    """Read a number; a list of numbers, by depth; or a table of numbers, by pattern."""
    value = entry.values.get("alpha")
    if isinstance(value, list):
        if not value:
            raise entry.error("alpha", "an empty list", "List numbers from the first block to the last: [0.2, 1.0].")
        return tuple(entry.check("alpha", number, _SCALE) for number in value)
    if isinstance(value, dict):
        if not value or not all(value):
            raise entry.error("alpha", "an empty pattern", 'Give numbers by pattern: {"*.mlp.*" = 0.5, "*" = 1.0}.')
        return tuple((pattern, entry.check("alpha", number, _SCALE)) for pattern, number in value.items())
    return entry.get("alpha", _SCALE)


def _id(table: Table, key: str) -> str:
    name = table.text(key, None)
    if name is None:
        raise table.error(key, "is missing", "Use the id that 'persona vectors' or 'persona log' shows.")
    if not _ID.fullmatch(name):
        raise table.error(key, f"{shown(name)} is not an id", "An id is 4 to 64 hexadecimal digits (0-9, a-f).")
    return name
