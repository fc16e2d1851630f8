"""Building into memory, to run a model without writing it to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persona.building.budget import DEFAULT
from persona.building.plan import Plan
from persona.building.run import run
from persona.checkpoints.dtypes import BITS, byte_size
from persona.progress import SILENT, Progress
from persona.store.tensors import TensorStore

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Bits

    Held = tuple[Bits, str, tuple[int, ...]]


class Memory:
    """A sink that keeps every tensor as (bits, dtype, shape)."""

    def __init__(self, plan: Plan) -> None:
        import numpy as np

        self.tensors: dict[str, Held] = {}
        for output in plan.outputs:
            width = max(BITS[output.dtype], 8) // 8
            bits = np.empty(byte_size(output.dtype, output.entries) // width, f"<u{width}")
            self.tensors[output.name] = (bits, output.dtype, output.shape)

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Keep a block; may be called from any thread."""
        self.tensors[name][0][entry : entry + len(bits)] = bits


def build_in_memory(
    plan: Plan, store: TensorStore, progress: Progress = SILENT, *, memory: int = DEFAULT
) -> dict[str, Held]:
    """Build every output; returns (bits, dtype, shape) by name, with the bits that ``build`` would write.

    ``memory`` is the number of bytes of tensors to hold besides the result.
    """
    sink = Memory(plan)
    run(plan, store, sink, progress, memory=memory, identify=False)
    return sink.tensors
