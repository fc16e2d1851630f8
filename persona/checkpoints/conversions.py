"""Tensors of files that together become parameters of the loaded model, and the conversion in both directions.

The converters are transformers' (core_model_loading.py); ``checkpoints.modules`` says which tensors belong together.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Shape = tuple[int, ...]
    Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """What a file's tensor fills of a parameter: all of it, or one expert's rows ``start`` to ``stop``.

    Attributes:
        expert: Index on the parameter's first axis, which the file's tensor does not have; None if it has all axes.
        start: The first index on the following axis.
        turned: Whether the last two axes are swapped.
    """

    parameter: str
    expert: int | None
    start: int
    stop: int
    turned: bool = False


@dataclass(frozen=True)
class Group:
    """Tensors of the files that together become one or more parameters; usually one tensor that is one parameter.

    Attributes:
        files: Names in the files, in the order in which they are stacked or joined.
        parameters: Names in the model's state dict.
        converter: transformers' converter, or None if the tensor is only renamed.
    """

    files: tuple[str, ...]
    parameters: tuple[str, ...]
    shapes: tuple[Shape, ...]
    converter: Any = field(default=None, repr=False)
    _renamed: tuple[str, ...] = field(default=(), repr=False)
    """Names of ``files`` after renaming, before conversion."""
    _patterns: tuple[str, ...] = field(default=(), repr=False)
    _model: Any = field(default=None, repr=False)

    def convert(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        """The parameters that the files' tensors become.

        Raises:
            ValueError: transformers cannot convert these tensors.
        """
        if self.converter is None:
            return {self.parameters[0]: tensors[self.files[0]]}
        pieces = zip(self.files, self._patterns, strict=True)
        return _converted(self.converter, self.parameters[0], [(p, tensors[n]) for n, p in pieces], self._model)

    def revert(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        """The files' tensors that the parameters become when the model is saved.

        Raises:
            ValueError: transformers cannot convert these parameters back.
        """
        if self.converter is None:
            return {self.files[0]: tensors[self.parameters[0]]}
        back = self.converter.reverse_transform()
        renamed = {name: back.rename_source_key(name) for name in self.parameters}
        pieces = [(pattern, tensors[name]) for name, (_, pattern) in renamed.items()]
        first = renamed[self.parameters[0]][0]
        made = {self._bare(n): t for n, t in _converted(back, first, pieces, self._model).items()}
        names = {self._bare(renamed): name for renamed, name in zip(self._renamed, self.files, strict=True)}
        if sorted(made) != sorted(names):
            raise ValueError(f"{self.parameters[0]} cannot be converted back to {self.files[0]}")
        return {names[name]: tensor for name, tensor in made.items()}

    def part(self, file: str) -> Part | None:
        """What the file's tensor ``file`` fills of a parameter, or None if it is converted in another way."""
        return self._parts.get(file)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        parameter, shape = self.parameters[0], self.shapes[0]
        if self.converter is None:
            return {self.files[0]: Part(parameter, None, 0, shape[0] if shape else 1)}
        ops = [(type(op).__name__, getattr(op, "dim", None)) for op in self.converter.operations]
        if ops == [("Transpose", None)]:
            return self._turned(self.converter.operations[0], shape)
        if ops in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]) and shape:
            return self._stacked()
        return {}

    def _turned(self, op: Any, shape: Shape) -> dict[str, Part]:
        """The place of a tensor whose axes are swapped; only the last two can be."""
        if {op.dim0 % len(shape), op.dim1 % len(shape)} != {len(shape) - 2, len(shape) - 1}:
            return {}
        is_same = shape == tuple(self._model.get_parameter(self.parameters[0]).shape)
        turned = not (is_same and getattr(op, "check_dims", False))
        return {self.files[0]: Part(self.parameters[0], None, 0, shape[0], turned)}

    def _stacked(self) -> dict[str, Part]:
        """The places of experts: by their order among tensors of the same kind, after the other kinds' rows."""
        starts: dict[str, int] = {}
        rows = dict(zip(reversed(self._patterns), (shape[0] for shape in reversed(self.shapes)), strict=True))
        at = 0
        for pattern in self.converter.source_patterns:
            starts[pattern], at = at, at + rows.get(pattern, 0)
        experts, parts = dict.fromkeys(starts, 0), {}
        for file, pattern, shape in zip(self.files, self._patterns, self.shapes, strict=True):
            parts[file] = Part(self.parameters[0], experts[pattern], starts[pattern], starts[pattern] + shape[0])
            experts[pattern] += 1
        return parts

    def _bare(self, name: str) -> str:
        prefix = self._model.base_model_prefix
        return name.removeprefix(f"{prefix}.") if prefix else name


def by_file(groups: Sequence[Group]) -> dict[str, Group]:
    """Each file tensor's group."""
    return {file: group for group in groups for file in group.files}


def _converted(
    converter: Any, name: str, pieces: Iterable[tuple[str, torch.Tensor]], model: Any
) -> dict[str, torch.Tensor]:
    """Apply a fresh copy of a converter to tensors that were collected by source pattern."""
    import torch

    fresh = copy.deepcopy(converter)
    for pattern, tensor in pieces:
        fresh.add_tensor(name, name, pattern, tensor)
    try:
        made = fresh.convert(name, model=model, config=model.config)
    except (RuntimeError, ValueError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{name} cannot be converted: {error}") from error
    return {n: t if isinstance(t, torch.Tensor) else t[0] for n, t in made.items()}
