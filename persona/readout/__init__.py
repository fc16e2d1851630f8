"""Readout vectors: one direction per concept and layer in the residual stream, to measure or steer a model.

    examples = persona.readout.read_pairs("pairs.jsonl")
    readout = persona.readout.read_readout("readouts/mood")
    with persona.readout.watch(model, readout) as r:                  # a transformers model, plain or wrapped
        model.generate(**inputs)
    r.mean(units="std")                                               # {layer: [batch, concepts]}
    with persona.readout.steer(model, {"warmth": 4.0, "coldness": -2.0}, readout):
        model.generate(**inputs)

Submodules are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.readout.extract import Rules
    from persona.readout.folder import read_readout, write_readout
    from persona.readout.model import Readout
    from persona.readout.pairs import LabelledText, read_pairs, write_pairs
    from persona.readout.steering import steer
    from persona.readout.watching import watch

_PARTS = {
    "LabelledText": "pairs",
    "Readout": "model",
    "Rules": "extract",
    "read_pairs": "pairs",
    "read_readout": "folder",
    "steer": "steering",
    "watch": "watching",
    "write_pairs": "pairs",
    "write_readout": "folder",
}
"""Public names, and the modules that define them."""

__all__ = [
    "LabelledText",
    "Readout",
    "Rules",
    "read_pairs",
    "read_readout",
    "steer",
    "watch",
    "write_pairs",
    "write_readout",
]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return getattr(importlib.import_module(f"persona.readout.{_PARTS[name]}"), name)
    raise AttributeError(f"module 'persona.readout' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
