"""Check the sizes that objects state against the store, before a build reserves space for them."""

from __future__ import annotations

from collections.abc import Iterator

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


def _specs(output: Output) -> Iterator[TensorSpec]:
    yield from (spec for spec in (output.base, output.copy) if spec is not None)
    yield from (carried.source for carried in output.carried)
    for term in output.terms:
        for _, part in parts_of(term.source) if term.source is not None else ():
            yield from (part.left, part.right) if isinstance(part, LowRankSpec) else (part,)
