"""Read the text of a mergekit configuration into its parts, each checked; unknown keys are errors.

merge_method: ties
base_model: models/base
models:
  - model: models/a                    a folder, FOLDER+ADAPTER, or a table of model and lora
    parameters: {weight: 0.5}
parameters: {normalize: true}

Instead of models, `slices` may list ranges of layers, each with the models to merge there (`sources`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from persona.checkpoints import yamltext
from persona.errors import PersonaError, RecipeError
from persona.settings import Table, dotted, shown

_TOP = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source")
_CANNOT = {
    "modules": "it merges parts of a model separately",
    "tokenizer": "it builds a vocabulary that is not the base's",
    "chat_template": "a chat template comes from the run that it was committed with",
}


_MODELS = "Write models as '- model: FOLDER', one below the other."
_SLICES = "Write slices as '- sources: [{model: FOLDER, layer_range: [0, 32]}, …]', one below the other."


@dataclass(frozen=True)
class ModelReference:
    """A model as the configuration names it: a path, and an adapter on top of it."""

    path: str
    lora: str | None = None

    def __str__(self) -> str:
        return f"{self.path}+{self.lora}" if self.lora else self.path


@dataclass(frozen=True)
class ListedModel:
    """An entry of `models`, with its own parameters and its key: "models[0]"."""

    reference: ModelReference
    parameters: Table
    key: str


@dataclass(frozen=True)
class ListedSlice:
    """An entry of `slices`: models with a range of layers each, from the first to the one after the last."""

    sources: tuple[ListedModel, ...]
    ranges: tuple[tuple[int, int], ...]
    parameters: Table
    key: str


@dataclass(frozen=True)
class MergekitConfig:
    """A configuration, with `models` or `slices`. Values of parameters are numbers, booleans, or as in :mod:`.setting`."""

    where: str
    method: str
    base: ModelReference | None
    models: tuple[ListedModel, ...]
    parameters: Table
    notes: tuple[str, ...] = ()
    slices: tuple[ListedSlice, ...] = ()

    def error(self, key: str, problem: str, hint: str) -> PersonaError:
        """Make an error that names the file and the key."""
        return Table({}, self.where, make_error=RecipeError).error(key, problem, hint)


def parse_config(text: str, where: str) -> MergekitConfig:
    """Read a configuration.

    Args:
        where: Name of the file, for errors.

    Raises:
        RecipeError: `text` is not a mergekit configuration, or has a key that no recipe can express.
    """
    try:
        values = yamltext.load(text)
    except ValueError as error:
        raise RecipeError(f"{where}: not valid YAML: {error}", "Fix the file.") from None
    if not isinstance(values, Mapping) or "merge_method" not in values:
        raise RecipeError(f"{where} is not a mergekit configuration: it has no merge_method", "Pass another file.")
    table = Table(values, where, make_error=RecipeError)
    for key in values:
        if key in _CANNOT:
            problem = f"a recipe cannot express this: {_CANNOT[key]}"
            raise table.error(key, problem, "Merge with mergekit, and commit the result.")
    table.allow(_TOP)
    if table.values.get("tokenizer_source") not in (None, "base"):
        raise table.error("tokenizer_source", "only 'base' is supported", "Remove the line.")
    if "models" in table and "slices" in table:
        raise table.error("slices", "cannot be used with 'models'", "Remove one of them.")
    slices = tuple(map(_slice, table.tables("slices", _SLICES))) if "slices" in table else ()
    return MergekitConfig(
        where=where,
        method=_text(table, "merge_method"),
        base=_reference(table, "base_model") if "base_model" in table else None,
        models=() if slices else tuple(map(_listed, table.tables("models", _MODELS))),
        parameters=_parameters(table),
        notes=tuple(_notes(table)),
        slices=slices,
    )


def _notes(table: Table) -> list[str]:
    notes = []
    compute = _text(table, "dtype") if "dtype" in table else None
    out = _text(table, "out_dtype") if "out_dtype" in table else compute
    if compute not in (None, "float32"):
        notes.append(f"dtype {compute}: persona computes in float32, so the last digits differ")
    if out is not None:
        notes.append(f"recipes do not record {out}: build with persona build --dtype {out}")
    return notes


def _text(table: Table, key: str) -> str:
    """Return a string; raise if it is missing or blank."""
    value = table.text(key, None, wanted="text", empty=False)
    if value is None:
        raise table.error(key, "is missing", f"Add a line '{key}: …'.")
    return value


def _listed(model: Table) -> ListedModel:
    model.allow(("model", "parameters"), "A model has 'model' and 'parameters'.")
    return ListedModel(_reference(model, "model"), _parameters(model), dotted(model.path))


def _slice(piece: Table) -> ListedSlice:
    piece.allow(("sources", "parameters"), "A slice has 'sources' and 'parameters'.")
    sources = piece.tables("sources", _SLICES)
    for source in sources:
        source.allow(("model", "layer_range", "parameters"), "A source has 'model', 'layer_range' and 'parameters'.")
    models = (ListedModel(_reference(one, "model"), _parameters(one), dotted(one.path)) for one in sources)
    return ListedSlice(tuple(models), tuple(map(_range, sources)), _parameters(piece), dotted(piece.path))


def _range(source: Table) -> tuple[int, int]:
    value = source.values.get("layer_range")
    if not isinstance(value, list) or len(value) != 2 or not all(type(item) is int and item >= 0 for item in value):
        raise source.error("layer_range", f"{shown(value)} is not a range of layers", "Write [FIRST, LAST + 1].")
    return value[0], value[1]


def _reference(table: Table, key: str) -> ModelReference:
    if isinstance(table.values.get(key), Mapping):
        model = table.table(key)
        model.allow(("model", "lora", "override_architecture"))
        if "override_architecture" in model:
            raise model.error("override_architecture", "is not supported", "Remove the line.")
        return ModelReference(_path(model, "model"), _path(model, "lora") if "lora" in model else None)
    path, *adapters = _text(table, key).split("+")
    parts = [path, *adapters]
    if len(parts) > 2 or not all(parts):
        raise table.error(key, f"{shown('+'.join(parts))} is not FOLDER or FOLDER+ADAPTER", "Name one adapter at most.")
    return ModelReference(*parts)


def _path(table: Table, key: str) -> str:
    if not isinstance(table.values.get(key), Mapping):
        return _text(table, key)
    model = table.table(key)
    model.allow(("path", "revision"))
    if "revision" in model:
        raise model.error("revision", "names a revision on the Hub", "Download it, and name the folder.")
    return _text(model, "path")


def _parameters(table: Table) -> Table:
    """Return a copy of the table `parameters` in which every value is checked, and numbers are floats."""
    given = table.table("parameters", "Write parameters as 'name: value', one below the other.", optional=True)
    return replace(given, values={str(key): _setting(given, key, given.values[key]) for key in given.values})


def _setting(table: Table, key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return [_condition(table.table(key))]
    if not isinstance(value, list):
        return _number(table, key, value)
    if not value:
        raise table.error(key, "is an empty list", "Give at least one number.")
    if all(isinstance(item, dict) for item in value):
        return [_condition(condition) for condition in table.tables(key, "")]
    return [_number(table, f"{key}[{index}]", item) for index, item in enumerate(value)]


def _condition(table: Table) -> dict[str, Any]:
    """Read a value that applies to the tensors whose names contain a filter."""
    table.allow(("filter", "value"))
    value = table.values.get("value")
    values = [_number(table, "value", item) for item in value] if isinstance(value, list) and value else None
    condition: dict[str, Any] = {"value": _number(table, "value", value) if values is None else values}
    return condition | ({"filter": _text(table, "filter")} if "filter" in table else {})


def _number(table: Table, key: str, value: Any) -> float:
    """Return a finite number. YAML 1.1 reads ``1e-5`` as text, which mergekit accepts as a number, too."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise table.error(key, f"{shown(value)} is not a number", "Give a finite number.")
    return number
