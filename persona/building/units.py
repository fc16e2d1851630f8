"""What is compressed together: one matrix, or the parts of one expert that transformers stacks.

Files store the gate and the up projection of an expert separately, and the loaded model has them below each other in one
parameter. Their nearest adapter is that of the stacked matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from persona.building.adapter import EXACT, Surroundings, is_stack, stack_module
from persona.building.plan import Output, Plan
from persona.checkpoints.adapters.writing import Module, Unsaid

if TYPE_CHECKING:
    from persona.building.truncate import Float32, Float64

    Array = TypeVar("Array", Float32, Float64)


@dataclass(frozen=True)
class Unit:
    """Tensors that are compressed together, below each other."""

    parts: tuple[tuple[Output, Module], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its tensors."""
        return tuple(output.name for output, _ in self.parts)

    @property
    def module(self) -> Module:
        """The module, or the expert with all its parts."""
        first, last = self.parts[0][1], self.parts[-1][1]
        if first.slot is None or last.slot is None:
            return first
        return replace(first, slot=replace(first.slot, stop=last.slot.stop))

    def rows(self, module: Module) -> slice:
        """The rows of a part in the whole unit."""
        first = self.parts[0][1]
        if first.slot is None or module.slot is None:
            return slice(None)
        return slice(module.slot.start - first.slot.start, module.slot.stop - first.slot.start)

    def stack(self, parts: Sequence[Array]) -> Array:
        """The parts below each other; zeros where an expert's part does not change."""
        import numpy as np

        last = self.parts[-1][1]
        if last.slot is None:
            return parts[0]
        whole = np.zeros((self.rows(last).stop, parts[0].shape[1]), parts[0].dtype)
        for (_, module), part in zip(self.parts, parts, strict=True):
            whole[self.rows(module)] = part
        return whole


def units_of(
    plan: Plan, outputs: Sequence[Output], around: Surroundings
) -> tuple[list[Unit], dict[str, Unit | Unsaid]]:
    """Units of thin factors only; and for every other tensor its unit, or why an adapter cannot represent it."""
    thin = {o.name: m for o in outputs if isinstance(m := _stack(plan, o, around), Module)}
    parts: dict[str, list[tuple[Output, Module]]] = {}
    others: dict[str, Unit | Unsaid] = {}
    for output in outputs:
        if output.name not in thin and (output.dtype != "F32" or not output.entries):
            continue
        module = thin.get(output.name) or _module(output, around)
        if isinstance(module, Unsaid):
            others[output.name] = module
        else:
            key = f"{module.target}[{module.slot.expert}]" if module.slot else output.name
            parts.setdefault(key, []).append((output, module))
    products = []
    for part in parts.values():
        unit = Unit(tuple(sorted(part, key=_start)))
        if all(name in thin for name in unit.names):
            products.append(unit)
        else:
            others |= dict.fromkeys(unit.names, unit)
    return products, others


def together(outputs: Sequence[Output], units: Mapping[str, Unit | Unsaid]) -> list[Output]:
    """The outputs that ``units`` names, those of a unit next to each other, so that they are in memory for a short time."""
    by_name = {output.name: output for output in outputs}
    names = dict[str, None]()
    for name in by_name:
        unit = units.get(name)
        names |= dict.fromkeys(unit.names if isinstance(unit, Unit) else (name,) if unit else ())
    return [by_name[name] for name in names]


def _start(part: tuple[Output, Module]) -> int:
    return part[1].slot.start if part[1].slot else 0


def _module(output: Output, around: Surroundings) -> Module | Unsaid:
    """The module of a tensor that is compressed entry by entry."""
    if output.base is None or output.shape != output.base.shape:
        return Unsaid("it has rows that the base does not have")
    return around.module(output.name)


def _stack(plan: Plan, output: Output, around: Surroundings) -> Module | Unsaid | None:
    return stack_module(output, around) if plan.method in EXACT and is_stack(output) else None
