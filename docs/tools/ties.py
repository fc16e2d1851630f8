"""Make ``persona/checkpoints/ties.json``: which tensors are one in each model class of the installed transformers.

    python -m docs.tools.ties > persona/checkpoints/ties.json

Every class is created without weights and with ties switched on; ``_tied_weights_keys`` of it and of the models inside
of it are what ``PreTrainedModel.tie_weights`` goes by. A class that cannot be created has its own ties only.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

LAYERS = frozenset(
    {
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
        "num_encoder_layers", "num_decoder_layers", "depth",
    }
)  # fmt: skip
"""Settings of a config that make it deep, which costs time and changes nothing here."""

SETTING = "tie_word_embeddings"

Ties = dict[str, list[Any]]


def classes() -> dict[str, Any]:
    """Every model class that transformers exports, by name."""
    import transformers
    from transformers import models

    found = {}
    for path in sorted(Path(models.__path__[0]).glob("*/modeling_*.py")):
        try:
            module = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
        except ImportError:  # needs a package that is not installed
            continue
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel) and hasattr(transformers, name):
                found[name] = kind
    return {name: kind for name, kind in sorted(found.items()) if not name.endswith("PreTrainedModel")}


def ties_of(kind: Any) -> Ties:
    """What a class ties, by the part of its config that decides, with what the part makes of the setting."""
    import torch

    try:
        with torch.device("meta"):
            model = kind(_config(kind))
    except Exception:  # composite models without defaults, and those that need other packages
        own = kind._tied_weights_keys or {}
        return {"": [_switch(kind.config_class), own]} if own else {}
    parts: Ties = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for alias, tensor in (getattr(module, "_tied_weights_keys", None) or {}).items():
            part = _part(model.config, module.config)
            if part is not None:
                ties = parts.setdefault(part, [_switch(type(_sub(model.config, part))), {}])[1]
                ties[_below(prefix, alias)] = _below(prefix, tensor)
    return dict(sorted(parts.items()))


def _switch(kind: Any) -> str:
    """Whether a class of configs ties weights (1 or 0) if ``tie_word_embeddings`` is absent, false, true, or false or true in
    its text_config: T5 ignores the setting, and others take that of the text model.
    """
    text = "text_config" in kind.sub_configs
    given: list[dict[str, Any]] = [{}, {SETTING: False}, {SETTING: True}]
    given += [{"text_config": {SETTING: value}} if text else {} for value in (False, True)]
    return "".join(str(int(_ties(kind, settings))) for settings in given)


def _ties(kind: Any, settings: dict[str, Any]) -> bool:
    try:
        return bool(getattr(kind.from_dict(settings), SETTING, False))
    except Exception:  # some need more settings, and some refuse this one
        return bool(settings.get(SETTING, getattr(kind, SETTING, False)))


def _config(kind: Any) -> Any:
    config = kind.config_class()
    for table in _parts(config):
        for name in LAYERS & vars(table).keys():
            if isinstance(getattr(table, name), int) and getattr(table, name) > 2:
                setattr(table, name, 2)
        table.tie_word_embeddings = True
    return config


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _parts(part)


def _part(config: Any, own: Any) -> str | None:
    """The name of a part of a config; None if it is deeper than one level, where no model ties weights today."""
    if own is config:
        return ""
    return next((name for name in config.sub_configs if getattr(config, name, None) is own), None)


def _sub(config: Any, part: str) -> Any:
    return getattr(config, part) if part else config


def _below(prefix: str, name: str) -> str:
    """A name or pattern of a model inside of another."""
    if not prefix:
        return name.removeprefix("^")
    return f"{prefix}.{name}" if re.fullmatch(r"[\w.]+", name) else f"{re.escape(prefix)}\\.{name.removeprefix('^')}"


def table() -> dict[str, Any]:
    """The content of the file."""
    found = {name: ties_of(kind) for name, kind in classes().items()}
    tied = {name: ties for name, ties in found.items() if ties}
    return {
        "transformers": version("transformers"),
        "classes": tied,
        "untied": [name for name in found if name not in tied],
    }


def main() -> None:
    """Print the table, one class per line."""
    made = table()
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(ties)}" for name, ties in made["classes"].items())
    names = ",\n".join(json.dumps(name) for name in made["untied"])
    release = json.dumps(made["transformers"])
    sys.stdout.write(f'{{"transformers": {release},\n"classes": {{\n{rows}\n}},\n"untied": [\n{names}\n]}}\n')


if __name__ == "__main__":
    from transformers.utils import logging

    logging.set_verbosity_error()
    main()
