"""The names that tensors have in the loaded model, according to the installed transformers.

transformers 5 renames tensors on loading, stacks the experts of a mixture in one parameter, and splits or joins others.
The model that the config names is created without weights, and transformers' own functions are asked, so what this module
says is what ``from_pretrained`` does. Code that comes with a checkpoint is never run.

    groups = modules.groups(shapes of the files' tensors)      which tensors become which parameters
    group.convert(tensors of the files) → parameters           as from_pretrained
    group.revert(parameters) → tensors of the files            as save_pretrained
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
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
        at = self.files.index(file)
        shape, parameter = self.shapes[at], self.parameters[0]
        if self.converter is None:
            return Part(parameter, None, 0, shape[0] if shape else 1)
        ops = [(type(op).__name__, getattr(op, "dim", None)) for op in self.converter.operations]
        if ops == [("Transpose", None)]:
            op = self.converter.operations[0]
            swaps = {op.dim0 % len(shape), op.dim1 % len(shape)} == {len(shape) - 2, len(shape) - 1}
            return self._turned(parameter, shape) if swaps else None
        if ops not in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]) or not shape:
            return None
        return self._stacked(at, parameter)

    def _turned(self, parameter: str, shape: Shape) -> Part | None:
        wanted = tuple(self._model.get_parameter(parameter).shape)
        if shape == wanted and getattr(self.converter.operations[0], "check_dims", False):
            return Part(parameter, None, 0, shape[0])
        return Part(parameter, None, 0, shape[0], True)

    def _stacked(self, at: int, parameter: str) -> Part:
        """The place of one expert: its index among tensors of the same kind, after the other kinds' rows."""
        pattern = self._patterns[at]
        expert = self._patterns[:at].count(pattern)
        before = self.converter.source_patterns[: self.converter.source_patterns.index(pattern)]
        start = sum(self.shapes[self._patterns.index(p)][0] for p in before if p in self._patterns)
        return Part(parameter, expert, start, start + self.shapes[at][0])

    def _bare(self, name: str) -> str:
        prefix = self._model.base_model_prefix
        return name.removeprefix(f"{prefix}.") if prefix else name


class Modules:
    """The model that a config names, without weights."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @staticmethod
    def of(config: Mapping[str, Any]) -> Modules | None:
        """The model of ``config.json``, or None if the installed transformers does not have its class."""
        named = config.get("architectures")
        if not isinstance(named, list) or not named:
            return None
        return _modules(str(named[0]), json.dumps(config, sort_keys=True))

    @cached_property
    def parameters(self) -> dict[str, Shape]:
        """Names of parameters and saved buffers → shapes; includes tied names."""
        return {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}

    @cached_property
    def tied(self) -> dict[str, str]:
        """Names of tied parameters → the parameter that they share."""
        return dict(getattr(self.model, "all_tied_weights_keys", None) or {})

    @property
    def prefix(self) -> str:
        """What precedes the names of the bare model, with its dot: ``model.``."""
        prefix = self.model.base_model_prefix
        return f"{prefix}." if prefix else ""

    def groups(self, shapes: Mapping[str, Shape]) -> list[Group]:
        """How tensors of files become parameters; tensors that the model does not have are in no group.

        Args:
            shapes: Shapes of all tensors in the files, by name.
        """
        return _Grouping(self.model, self.parameters).groups(shapes)

    def names(self, shapes: Mapping[str, Shape]) -> dict[str, str]:
        """Names in the files → names in the model, for tensors that are only renamed."""
        return {g.files[0]: g.parameters[0] for g in self.groups(shapes) if g.converter is None}

    def kind(self, path: str) -> str:
        """What an adapter sees at a module's path: linear, conv1d, embedding, conv, other, or nothing ('')."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        try:
            module = self.model.get_submodule(path)
        except AttributeError:
            return ""
        kinds = {
            "linear": nn.Linear,
            "embedding": nn.Embedding,
            "conv1d": Conv1D,
            "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        }
        return next((kind for kind, classes in kinds.items() if isinstance(module, classes)), "other")

    def order(self, parameter: str) -> int:
        """The place of a parameter among those of its module."""
        path, _, leaf = parameter.rpartition(".")
        return list(self.model.get_submodule(path).state_dict()).index(leaf)

    def stores_in_out(self, path: str) -> bool:
        """Whether a module of stacked experts stores them [experts, in, out]."""
        return bool(getattr(self.model.get_submodule(path), "is_transposed", False))

    def in_attention(self, path: str) -> bool:
        """Whether a module is torch's ``MultiheadAttention``, or in one."""
        from torch import nn

        around = (path, path.rpartition(".")[0])
        return any(isinstance(self.model.get_submodule(name), nn.MultiheadAttention) for name in around)


@lru_cache(maxsize=4)
def _modules(name: str, text: str) -> Modules | None:
    import torch

    kind = _class(name)
    if kind is None:
        return None
    settings = {key: value for key, value in json.loads(text).items() if key != "quantization_config"}
    try:
        with _quiet(), torch.device("meta"):
            config = kind.config_class
            return Modules(kind(config.from_dict(config._decode_special_floats(settings))))  # as from_pretrained does
    except Exception:  # a model's own code may raise anything on a config that it does not expect
        return None


def _class(name: str) -> Any:
    """The model class of transformers with this name, or None."""
    import transformers

    kind = getattr(transformers, name, None)
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    return kind if is_model and getattr(kind, "config_class", None) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers, which logs warnings about kernels that are not installed."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


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


@dataclass
class _Collected:
    """A group in progress."""

    converter: Any
    files: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)


class _Grouping:
    """The loop over names of transformers' ``convert_and_load_state_dict_in_model``."""

    def __init__(self, model: Any, parameters: Mapping[str, Shape]) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        mapping = get_model_conversion_mapping(model)
        self.model, self.parameters = model, parameters
        self.renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        self.converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
        self.by_pattern = {pattern: entry for entry in self.converters for pattern in entry.source_patterns}

    def groups(self, shapes: Mapping[str, Shape]) -> list[Group]:
        """See :meth:`Modules.groups`."""
        from transformers.core_model_loading import dot_natural_key

        collected: dict[str, _Collected] = {}
        for file in sorted(shapes, key=dot_natural_key):
            name, pattern, renamed = self._loaded(file)
            if name not in self.parameters:
                continue
            converter = self.by_pattern[pattern] if pattern is not None else None
            entry = collected.setdefault(name, _Collected(converter))
            if entry.converter is not converter or (converter is None and entry.files):
                continue  # a second tensor for the same parameter
            entry.files.append(file)
            entry.renamed.append(renamed)
            entry.patterns.append(pattern or file)
        return [self._group(name, entry, shapes) for name, entry in collected.items()]

    def _loaded(self, file: str) -> tuple[str, str | None, str]:
        """The parameter's name, the matching converter's pattern, and the name between renaming and conversion."""
        from transformers.core_model_loading import apply_renamings, rename_source_key

        prefix = self.model.base_model_prefix
        name, pattern = rename_source_key(file, self.renamings, self.converters, prefix, self._state)
        renamed = apply_renamings(file, self.renamings)
        if name not in self.parameters and file in self.parameters:
            name, pattern = rename_source_key(file, [], [], prefix, self._state)
        return name, pattern, renamed

    @cached_property
    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.model.state_dict()
        return state

    def _group(self, name: str, entry: _Collected, shapes: Mapping[str, Shape]) -> Group:
        files = tuple(entry.files)
        own = tuple(shapes[file] for file in files)
        group = Group(files, (name,), own, entry.converter, tuple(entry.renamed), tuple(entry.patterns), self.model)
        if entry.converter is None or len(entry.converter.target_patterns) == 1:
            return group
        return Group(files, self._targets(group), own, entry.converter, group._renamed, group._patterns, self.model)

    def _targets(self, group: Group) -> tuple[str, ...]:
        """All parameters of a converter that makes several, found with tensors that have only shapes."""
        import torch

        empty = {name: torch.empty(shape, device="meta") for name, shape in zip(group.files, group.shapes, strict=True)}
        try:
            return tuple(group.convert(empty))
        except ValueError:
            return group.parameters


def by_file(groups: Sequence[Group]) -> dict[str, Group]:
    """Each file tensor's group."""
    return {file: group for group in groups for file in group.files}
