"""A build whose weights stay in memory, for those who run a model and do not keep it."""

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
    """A sink that keeps every tensor: its bits, its format, its shape."""

    def __init__(self, plan: Plan) -> None:
        import numpy as np

        self.tensors: dict[str, Held] = {}
        for output in plan.outputs:
            width = max(BITS[output.dtype], 8) // 8
            bits = np.empty(byte_size(output.dtype, output.entries) // width, f"<u{width}")
            self.tensors[output.name] = (bits, output.dtype, output.shape)

    def write(self, name: str, entry: int, bits: Bits) -> None:
        """Keep a block; called from any thread."""
        self.tensors[name][0][entry : entry + len(bits)] = bits


def build_in_memory(
    plan: Plan, store: TensorStore, progress: Progress = SILENT, *, memory: int = DEFAULT
) -> dict[str, Held]:
    """Every output's bits as ``build`` would have written them, by name."""
    sink = Memory(plan)
    run(plan, store, sink, progress, memory=memory)
    return sink.tensors
