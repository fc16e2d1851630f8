"""Configurations with `slices` that keep every layer in its place: rewritten as `models`, with numbers by tensor.

A slice merges a range of layers with its own parameters. mergekit interpolates a list of numbers along the layers of each
slice, and takes the first slice for tensors before the layers and the last one for those after them, at depth 0
(`plan_slice` and `plan_module` in its plan.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import PersonaError
from persona.recipe import alphas
from persona.recipe.alphas import Depths
from persona.recipe.mergekit import BY_MODEL
from persona.recipe.mergekit.config import ListedModel, ListedSlice, MergekitConfig
from persona.recipe.mergekit.setting import by_name, evaluate_at

_ORDER = "A recipe keeps the layers of its base: the slices have to cover each layer once, in order."


def without_slices(config: MergekitConfig, names: Collection[str]) -> MergekitConfig:
    """Return the configuration with `models` instead of `slices`; itself if it has none.

    Args:
        config: A configuration.
        names: The names of the base's tensors.

    Raises:
        RecipeError: the slices move, repeat or leave out a layer, or merge other models in some layers.
    """
    if not config.slices:
        return config
    _check_layers(config, Depths.of(names))
    first = config.slices[0]
    if len(config.slices) == 1:
        shared = {**config.parameters.values, **first.parameters.values}
        return replace(config, models=first.sources, parameters=replace(config.parameters, values=shared), slices=())
    _check_models(config)
    merged = _Merged(config, tuple(names))
    models = tuple(
        replace(source, parameters=replace(source.parameters, values=dict(merged.of_model(source))))
        for source in first.sources
    )
    shared = dict(merged.shared())
    return replace(config, models=models, parameters=replace(config.parameters, values=shared), slices=())


def _check_layers(config: MergekitConfig, depths: Depths) -> None:
    """Raise unless the slices cover each layer of the base once, in order."""
    if len(depths.blocks) != 1:
        stacks = ", ".join(sorted(depths.blocks)) or "none"
        raise config.error("slices", f"the base must have one stack of layers (it has: {stacks})", "Use 'models:'.")
    (count,) = depths.blocks.values()
    place = 0
    for piece in config.slices:
        for source, (start, stop) in zip(piece.sources, piece.ranges, strict=True):
            problem = _misplaced(source, start, stop, place, count) or _uneven(piece, stop)
            if problem:
                raise config.error(f"{source.key}.layer_range", problem, _ORDER)
        place = piece.ranges[0][1]
    if place < count:
        left = f"layer {place} is" if place == count - 1 else f"layers {place} to {count - 1} are"
        raise config.error("slices", f"{left} left out", _ORDER)


def _misplaced(source: ListedModel, start: int, stop: int, place: int, count: int) -> str:
    if stop <= start:
        return f"[{start}, {stop}] has no layers"
    if stop > count:
        return f"the base has no layer {max(start, count)}: its last one is {count - 1}"
    if start < place:
        return f"layer {start} of {source.reference} comes twice"
    return f"puts layer {start} of {source.reference} in the place of layer {place}" if start > place else ""


def _uneven(piece: ListedSlice, stop: int) -> str:
    return f"ends at {stop}, but another model of the slice at {piece.ranges[0][1]}" * (stop != piece.ranges[0][1])


def _check_models(config: MergekitConfig) -> None:
    """Raise unless all slices merge the same models."""
    first = config.slices[0]
    wanted = [source.reference for source in first.sources]
    for piece in config.slices[1:]:
        for source in piece.sources:
            if source.reference not in wanted:
                raise _other(config, source.key, f"{source.reference} is not in {first.key}")
        for reference in wanted:
            if reference not in [source.reference for source in piece.sources]:
                raise _other(config, piece.key, f"does not have {reference}")


def _other(config: MergekitConfig, key: str, problem: str) -> PersonaError:
    return config.error(key, problem, "List the same models in each slice, with weight 0 where one is not to act.")


@dataclass(frozen=True)
class _Merged:
    """The parameters of several slices as one setting each."""

    config: MergekitConfig
    names: tuple[str, ...]

    def of_model(self, first: ListedModel) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of a model: those that a slice gives it, and those that differ by model."""
        sources = [next(one for one in piece.sources if one.reference == first.reference) for piece in self._pieces]
        tables = [(source.parameters, piece.parameters) for source, piece in zip(sources, self._pieces, strict=True)]
        known = {name for tables_ in tables for table in tables_ for name in table.values}
        own = {name for source in sources for name in source.parameters.values}
        for name in sorted(own | (known & BY_MODEL)):
            yield name, self._setting(name, [(*one, self.config.parameters) for one in tables], sources)

    def shared(self) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of all models."""
        tables = [(piece.parameters, self.config.parameters) for piece in self._pieces]
        for name in sorted({name for tables_ in tables for table in tables_ for name in table.values} - BY_MODEL):
            yield name, self._setting(name, tables, self._pieces)
        yield from ((name, value) for name, value in self.config.parameters.values.items() if name in BY_MODEL)

    @property
    def _pieces(self) -> tuple[ListedSlice, ...]:
        return self.config.slices

    def _setting(self, name: str, tables: list[Any], where: Any) -> Any:
        """One setting for what each slice says."""
        said = [next((table.values[name] for table in some if name in table.values), None) for some in tables]
        for value, place in zip(said, where, strict=True):
            if value is None:
                raise self._error(f"{place.key}.parameters.{name}", "is missing, but other slices have it")
        if all(value == said[0] and isinstance(value, bool | float | int) for value in said):
            return said[0]
        if any(isinstance(value, bool) for value in said):
            raise self._error(f"parameters.{name}", "differs between slices")
        values = {tensor: self._at(tensor, said) for tensor in self.names}
        missing = next((tensor for tensor, value in values.items() if value is None), None)
        if missing is not None:
            raise self._error(f"parameters.{name}", f"no filter matches {missing}")
        return by_name({tensor: value for tensor, value in values.items() if value is not None})

    def _at(self, tensor: str, said: list[Any]) -> float | None:
        """The value at a tensor."""
        part, block = alphas.layer_of(tensor)
        if part != 1:
            return evaluate_at(said[0] if part == 0 else said[-1], tensor, 0.0)
        layer = int(block.rpartition(".")[2])
        for setting, piece in zip(said, self._pieces, strict=True):
            start, stop = piece.ranges[0]
            if start <= layer < stop:
                return evaluate_at(setting, tensor, (layer - start) / (stop - start - 1) if stop - start > 1 else 1.0)
        raise AssertionError(layer)  # the ranges cover all layers

    def _error(self, key: str, problem: str) -> PersonaError:
        return self.config.error(key, problem, "Give it in each slice, in the same form.")
