"""A readout: what it measures, where, and along which directions.

The *residual stream* at layer i is the output of block i (0-based), after the residual addition; a model of d blocks has
layers 0 … d − 1. A readout has, for each of its layers, one direction v of length 1 for each concept, and the readout of
an activation h there is the projection h · v.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32

SITE = "block_output"
"""The only hook site there is: the residual stream after a block, with what the block added."""


@dataclass(frozen=True)
class Readout:
    """Directions by layer, ``[concepts, hidden]`` in fp32 with rows of length 1, and what is known of them.

    ``about`` is the manifest without ``concepts``, ``layers`` and ``format`` (:mod:`persona.readout.folder` has its fields).
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
        """The row of a concept, or an error with a suggestion."""
        if concept not in self.concepts:
            hint = did_you_mean(concept, self.concepts) or f"It has: {', '.join(self.concepts)}."
            raise UsageError(f"the readout has no concept '{concept}'", hint)
        return self.concepts.index(concept)

    def at(self, layer: int) -> Float32:
        """The directions at a layer, ``[concepts, hidden]``, or an error that says which layers there are."""
        if layer not in self.vectors:
            raise UsageError(
                f"the readout has no layer {layer}", f"It has: {', '.join(str(number) for number in self.layers)}."
            )
        return self.vectors[layer]
