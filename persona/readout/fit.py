"""Check whether a readout fits a model: width of the residual stream and number of blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from persona.checkpoints.ties import is_embedding
from persona.errors import UsageError
from persona.readout.model import Readout

_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_BLOCKS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def width_of(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Width of the residual stream, from the configuration or the input embedding; None if unknown."""
    configured = _configured(config, _WIDTH)
    if configured is not None:
        return configured
    widths = {shape[1] for name, shape in shapes.items() if is_embedding(name) and len(shape) == 2}
    return widths.pop() if len(widths) == 1 else None


def blocks_of(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Number of blocks, from the configuration or the names of the weights; None if unknown."""
    configured = _configured(config, _BLOCKS)
    if configured is not None:
        return configured
    return max((int(match[1]) + 1 for name in shapes if (match := _BLOCK.search(name))), default=None)


def _configured(config: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    """The first of `keys` with a number; `text_config` of a multimodal model takes precedence."""
    inner = config.get("text_config")
    tables: list[Mapping[str, Any]] = [*([inner] if isinstance(inner, Mapping) else []), config]
    return next((table[key] for table in tables for key in keys if isinstance(table.get(key), int)), None)


def check_fits(readout: Readout, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], what: str) -> None:
    """Raise UsageError if the readout cannot be for this model.

    Args:
        config: The model's `config.json`.
        shapes: Shapes of its tensors by name.
        what: What to call the model in errors.
    """
    width, blocks = width_of(config, shapes), blocks_of(config, shapes)
    if width is not None and readout.hidden != width:
        raise UsageError(
            f"the readout is {readout.hidden} wide, but the residual stream of {what} is {width} wide",
            "Train the readout on a model of this base: persona readout train --model REV.",
        )
    beyond = [layer for layer in readout.layers if blocks is not None and layer >= blocks]
    if beyond:
        raise UsageError(
            f"the readout has layer {beyond[0]}, but {what} has only layers 0 to {(blocks or 1) - 1}",
            "Train the readout on a model of this base: persona readout train --model REV.",
        )
