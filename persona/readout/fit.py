"""Whether a readout fits a model: the width of its residual stream, and how many blocks it has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from persona.checkpoints.folder import is_embedding
from persona.errors import UsageError
from persona.readout.model import Readout

_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_BLOCKS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def width_of(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> int | None:
    """Width of the residual stream, as the configuration says, or else the input embedding; None if neither does."""
    said = _said(config, _WIDTH)
    if said is not None:
        return said
    found = {shape[1] for name, shape in shapes.items() if is_embedding(name) and len(shape) == 2}
    return found.pop() if len(found) == 1 else None


def blocks_of(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> int | None:
    """How many blocks there are, as the configuration says, or else the names of the weights."""
    said = _said(config, _BLOCKS)
    if said is not None:
        return said
    return max((int(match[1]) + 1 for name in shapes if (match := _BLOCK.search(name))), default=None)


def _said(config: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    """The first of ``keys`` that says a number; of a model of several, its language model's."""
    inner = config.get("text_config")
    tables: list[Mapping[str, Any]] = [*([inner] if isinstance(inner, Mapping) else []), config]
    found = (table[key] for table in tables for key in keys if isinstance(table.get(key), int))
    return next(found, None)


def check_fits(readout: Readout, config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], what: str) -> None:
    """Raise unless the readout could be of the model ``what``, as far as that is known."""
    width, blocks = width_of(config, shapes), blocks_of(config, shapes)
    if width is not None and readout.hidden != width:
        raise UsageError(
            f"the readout has directions of {readout.hidden} entries, and the residual stream of {what} has {width}",
            "Train it on a model of this base: persona readout train --model REV.",
        )
    beyond = [layer for layer in readout.layers if blocks is not None and layer >= blocks]
    if beyond:
        raise UsageError(
            f"the readout has layer {beyond[0]}, and {what} has {blocks} blocks, 0 to {(blocks or 1) - 1}",
            "Layers are counted from 0. Train it on a model of this base: persona readout train --model REV.",
        )
