"""The readout: concepts, layers, and directions.

The *residual stream* at layer i is the output of block i (0-based), after the residual addition; a model of d blocks has
layers 0 … d − 1. For each of its layers, a readout has one direction v of length 1 per concept, and reads an activation h
as the projection h · v.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

SITE = "block_output"
"""The only hook site: the residual stream after a block, including what the block added."""


@dataclass(frozen=True)
class Readout:
    """Directions by layer (fp32 [concepts, hidden], rows of length 1), and their metadata.

    `about` is the manifest without `concepts`, `layers` and `format`; `persona.readout.folder` lists its fields.
    """

    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    vectors: Mapping[int, Float32]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.vectors[self.layers[0]].shape[1])

    def row(self, concept: str) -> int:
        """Row of a concept; raises UsageError if there is none."""
        if concept not in self.concepts:
            hint = did_you_mean(concept, self.concepts) or f"Available: {', '.join(self.concepts)}."
            raise UsageError(f"the readout has no concept '{concept}'", hint)
        return self.concepts.index(concept)

    def at(self, layer: int) -> Float32:
        """Directions [concepts, hidden] at a layer; raises UsageError if there is none."""
        if layer not in self.vectors:
            raise UsageError(f"the readout has no layer {layer}", f"Available: {', '.join(map(str, self.layers))}.")
        return self.vectors[layer]
