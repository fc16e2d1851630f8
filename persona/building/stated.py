"""What is stored for a plan: whether sizes are as objects state them, and in which files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from persona.building.plan import Output, Plan
from persona.errors import Damaged
from persona.store.nouns import LowRankSpec, TensorSpec, parts_of
from persona.store.tensors import TensorStore


def check_stated(plan: Plan, store: TensorStore) -> None:
    """Check that every tensor of a plan is stored with the dtype and shape that its object states.

    Raises:
        Damaged: one is not, or is missing.
    """
    for output in plan.outputs:
        for spec in dict.fromkeys(_specs(output)):
            stored = store.describe(spec.id)
            if (stored.dtype, stored.shape) != (spec.dtype, spec.shape):
                raise Damaged(
                    f"{output.name} is stated as {spec.dtype} {list(spec.shape)}, "
                    f"but tensor {spec.id.short} is {stored.dtype} {list(stored.shape)}",
                    "persona did not write this object: do not trust the repository that it came from.",
                )


def weight_files(plan: Plan, store: TensorStore) -> set[Path]:
    """The files that hold the tensors of a plan."""
    found = {store.file_of(spec.id) for output in plan.outputs for spec in _specs(output)}
    return {path for path in found if path is not None}


def _specs(output: Output) -> Iterator[TensorSpec]:
    """The tensors that an output is made of: of a copy, that one alone."""
    if output.copy is not None:
        yield output.copy
        return
    if output.base is not None:
        yield output.base
    yield from (carried.source for carried in output.carried)
    for term in output.terms:
        for _, part in parts_of(term.source) if term.source is not None else ():
            yield from (part.left, part.right) if isinstance(part, LowRankSpec) else (part,)
