"""The text of a mergekit configuration → its parts, each checked; nothing in it is passed over.

merge_method: ties
base_model: models/base
models:
  - model: models/a                    a folder, or folder+adapter, or a table of model and lora
    parameters: {weight: 0.5}
parameters: {normalize: true}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.checkpoints import yamltext
from persona.errors import RecipeError, did_you_mean

_TOP = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "tokenizer_source")
_CANNOT = {
    "slices": "it puts layers of models together, and a recipe has all layers of one base",
    "modules": "it merges parts of a model by themselves",
    "tokenizer": "a vocabulary that is put together has no base",
    "chat_template": "a template travels with the run that brings it",
}
_SCALARS = (int, float)


@dataclass(frozen=True)
class ModelReference:
    """A model as the configuration names it: a path, and an adapter on top of it."""

    path: str
    lora: str | None = None

    def __str__(self) -> str:
        return f"{self.path}+{self.lora}" if self.lora else self.path


@dataclass(frozen=True)
class ListedModel:
    """A model of the list, with its own parameters."""

    reference: ModelReference
    parameters: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class MergekitConfig:
    """A configuration; parameters are numbers, truths, or mergekit's settings, as :mod:`.setting` has them."""

    where: str
    method: str
    base: ModelReference | None
    models: tuple[ListedModel, ...]
    parameters: Mapping[str, Any]
    notes: tuple[str, ...] = field(default_factory=tuple)

    def error(self, key: str, what: str, hint: str) -> RecipeError:
        """An error that names the file and the key."""
        return RecipeError(f"{self.where}: {key}: {what}", hint)


def parse_config(text: str, where: str) -> MergekitConfig:
    """The parts of a configuration; ``where`` names it in errors."""
    try:
        table = yamltext.load(text)
    except ValueError as error:
        raise RecipeError(f"{where}: not YAML that can be read: {error}", "Mend the file.") from None
    reader = _Reader(where)
    if not isinstance(table, dict) or "merge_method" not in table:
        raise RecipeError(f"{where} is no mergekit configuration: it has no merge_method", "Give one of mergekit's.")
    for key in table:
        if key in _CANNOT:
            raise reader.error(
                str(key), f"a recipe cannot say this: {_CANNOT[key]}", "Merge with mergekit, and commit."
            )
        if key not in _TOP:
            raise reader.error(str(key), "unknown key", did_you_mean(str(key), _TOP))
    if table.get("tokenizer_source") not in (None, "base"):
        raise reader.error("tokenizer_source", "only the base's tokenizer can be said", "Take the line out.")
    base = table.get("base_model")
    return MergekitConfig(
        where=where,
        method=reader.text(table["merge_method"], "merge_method"),
        base=None if base is None else reader.reference(base, "base_model"),
        models=reader.models(table.get("models")),
        parameters=reader.parameters(table.get("parameters"), "parameters"),
        notes=tuple(_notes(reader, table)),
    )


def _notes(reader: _Reader, table: Mapping[str, Any]) -> list[str]:
    notes = []
    compute = reader.text(table["dtype"], "dtype") if table.get("dtype") is not None else None
    out = reader.text(table["out_dtype"], "out_dtype") if table.get("out_dtype") is not None else compute
    if compute not in (None, "float32"):
        notes.append(f"dtype {compute}: here all arithmetic is float32, so the last digits differ")
    if out is not None:
        notes.append(f"{out} is no part of a recipe: persona build --dtype {out}")
    return notes


class _Reader:
    """Takes typed values out of parsed YAML."""

    def __init__(self, where: str) -> None:
        self._where = where

    def error(self, key: str, what: str, hint: str) -> RecipeError:
        return RecipeError(f"{self._where}: {key}: {what}", hint)

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value or not _is_utf8(value):
            raise self.error(key, f"{_shown(value)} is no text", "Mend the line.")
        return value

    def models(self, value: Any) -> tuple[ListedModel, ...]:
        if not isinstance(value, list) or not value:
            raise self.error("models", "is missing, or no list", "A recipe comes from a list of models.")
        found = []
        for number, one in enumerate(value):
            key = f"models[{number}]"
            if not isinstance(one, dict) or "model" not in one:
                raise self.error(key, "names no model", "Write it as '- model: FOLDER'.")
            for other in one:
                if other not in ("model", "parameters"):
                    raise self.error(f"{key}.{other}", "unknown key", "A model has 'model' and 'parameters'.")
            reference = self.reference(one["model"], f"{key}.model")
            found.append(ListedModel(reference, self.parameters(one.get("parameters"), f"{key}.parameters"), key))
        return tuple(found)

    def reference(self, value: Any, key: str) -> ModelReference:
        if isinstance(value, dict):
            if value.get("override_architecture") is not None or not {*value} <= {*_REFERENCE}:
                raise self.error(key, "says more than 'model' and 'lora'", "Take the other keys out.")
            lora = value.get("lora")
            return ModelReference(
                self._path(value.get("model"), f"{key}.model"),
                None if lora is None else self._path(lora, f"{key}.lora"),
            )
        path, *rest = self.text(value, key).split("+")
        if len(rest) > 1:
            raise self.error(key, f"{_shown(value)} names more than one adapter", "Write FOLDER+ADAPTER.")
        return ModelReference(self._path(path, key), self._path(rest[0], key) if rest else None)

    def _path(self, value: Any, key: str) -> str:
        if isinstance(value, dict):
            if value.get("revision") is not None or not {*value} <= {"path", "revision"}:
                raise self.error(key, "names a revision of the hub", "Download it, and give the folder.")
            return self.text(value.get("path"), f"{key}.path")
        return self.text(value, key)

    def parameters(self, value: Any, key: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, "is no table", "Write parameters as 'name: value' below each other.")
        return {self.text(name, key): self._setting(one, f"{key}.{name}") for name, one in value.items()}

    def _setting(self, value: Any, key: str) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list):
            return self._number(value, key)
        if not value:
            raise self.error(key, "is an empty list", "Give one number at least.")
        if all(isinstance(one, dict) for one in value):
            return [self._condition(one, f"{key}[{number}]") for number, one in enumerate(value)]
        return [self._number(one, f"{key}[{number}]") for number, one in enumerate(value)]

    def _condition(self, value: dict[Any, Any], key: str) -> dict[str, Any]:
        if "value" not in value or not {*value} <= {"value", "filter"}:
            raise self.error(key, "is no 'filter' and 'value'", "Write it as {filter: PART, value: NUMBER}.")
        part = value.get("filter")
        inner = value["value"]
        said = (
            [self._number(one, key) for one in inner] if isinstance(inner, list) and inner else self._number(inner, key)
        )
        return {"value": said, **({} if part is None else {"filter": self.text(part, f"{key}.filter")})}

    def _number(self, value: Any, key: str) -> float:
        """A number; YAML 1.1 reads ``1e-5`` as a text, and mergekit takes that as a number, too."""
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(key, f"{_shown(value)} is no number", "Give a finite number.")
        return number


_REFERENCE = ("model", "lora", "override_architecture")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 63 else "an integer of many digits"
    return text if len(text) <= 60 else f"{text[:57]}…"
