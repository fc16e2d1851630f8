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
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from persona.checkpoints.conversions import Group, Part, by_file
from persona.errors import Refusal

if TYPE_CHECKING:
    Shape = tuple[int, ...]

__all__ = ["Group", "Modules", "Part", "by_file"]


class Modules:
    """The model that a config names, without weights."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @staticmethod
    def of(config: Mapping[str, Any]) -> Modules | None:
        """The model of ``config.json``, or None if the installed transformers does not have or cannot create it."""
        return _created(config)[0]

    @staticmethod
    def required(config: Mapping[str, Any]) -> Modules | None:
        """The model of ``config.json``, or None if the installed transformers does not have its class.

        Raises:
            Refusal: transformers has the class, but cannot create the model.
        """
        modules, reason = _created(config)
        if reason:
            raise Refusal(
                f"transformers cannot create the model that the base's config.json names: {reason}",
                "Without it, the names that the tensors have in the model are unknown. Install what it needs, or a newer "
                "transformers.",
            )
        return modules

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

        module = self._by_path.get(path)
        if module is None:
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
        return self._orders[path].index(leaf)

    def stores_in_out(self, path: str) -> bool:
        """Whether a module of stacked experts stores them [experts, in, out]."""
        return bool(getattr(self._by_path[path], "is_transposed", False))

    def in_attention(self, path: str) -> bool:
        """Whether a module is torch's ``MultiheadAttention``, or in one."""
        from torch import nn

        around = (path, path.rpartition(".")[0])
        return any(isinstance(self._by_path[name], nn.MultiheadAttention) for name in around)

    @cached_property
    def _by_path(self) -> dict[str, Any]:
        return dict(self.model.named_modules())

    @cached_property
    def _orders(self) -> dict[str, list[str]]:
        """The names of the parameters and buffers of every module, in order."""
        orders: dict[str, list[str]] = {}
        for name in self.parameters:
            path, _, leaf = name.rpartition(".")
            orders.setdefault(path, []).append(leaf)
        return orders


def _created(config: Mapping[str, Any]) -> tuple[Modules | None, str]:
    """The model, and why it cannot be created; neither if transformers does not have it."""
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        return None, ""
    return _modules(str(named[0]), json.dumps(config, sort_keys=True))


@lru_cache(maxsize=4)
def _modules(name: str, text: str) -> tuple[Modules | None, str]:
    import torch

    kind = _class(name)
    if kind is None:
        return None, ""
    settings = {key: value for key, value in json.loads(text).items() if key != "quantization_config"}
    try:
        # which an older transformers does not have
        from transformers.core_model_loading import apply_renamings, dot_natural_key, rename_source_key  # noqa: F401

        with _quiet(), torch.device("meta"):
            decode = getattr(kind.config_class, "_decode_special_floats", dict)  # as from_pretrained does
            return Modules(kind(kind.config_class.from_dict(decode(settings)))), ""
    except Exception as error:  # a model's own code may raise anything, such as on a package that is not installed
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        return None, f"{name}, {reason[:200]}"


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
