"""The module or parameter of the loaded model that has a base tensor, for writing adapters.

The installed transformers says it (``checkpoints.modules``). If it does not have the model's class, as with code that comes
with a checkpoint, the names in the files are taken for those in the model, and names and shapes tell the kinds of modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from persona.checkpoints.adapters.layers import stored_in_out_around
from persona.checkpoints.adapters.writing import Module, Slot, Unsaid
from persona.checkpoints.modules import Modules, by_file

if TYPE_CHECKING:
    from persona.checkpoints.conversions import Group, Part

    Shape = tuple[int, ...]

_EMBEDDING: Final = re.compile(r"(.*\.)?(\w*embed(ding|dings|_tokens|_in|_positions)?|wte|wpe|shared)")
_ROUTER: Final = re.compile(r".*\.(gate|router|shared_expert_gate)")
_EXPERT: Final = re.compile(r".*\.experts\.\d+\..*")

MAMBA: Final = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
MAMBA_ONLY: Final = frozenset({"out_proj", "conv1d"})
"""Modules that PEFT refuses in models of these types (tuners_utils.py), whose kernels read the weights directly."""
TAKEN: Final = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Modules that PEFT takes for those of experts in a mixture whose experts are stacked on loading
(transformers_weight_conversion.py): they have to be targets by parameter."""
_NO_MODULE: Final = "it is not the matrix of a module"


@dataclass(frozen=True)
class Places:
    """Where a base's tensors are in the loaded model.

    Attributes:
        shapes: Shapes of all base tensors.
        tied: Names of tied heads → the tensor that they share.
        config: The base's ``config.json``.
    """

    shapes: Mapping[str, Shape]
    tied: Mapping[str, str]
    config: Mapping[str, Any]

    def module(self, name: str, *, turned: bool | None = None) -> Module | Unsaid:
        """The module or parameter that has the base tensor ``name``, or why an adapter cannot change it.

        A tied head or embedding has none: PEFT changes one of the two, but merging the adapter would change both.

        Args:
            turned: Whether an adapter that was read stores the module transposed, if one has the module.
        """
        if name in self.tied or name in self.tied.values():
            return Unsaid("embedding and head share it")
        if name not in self.shapes:
            return Unsaid("the base has no such tensor")
        if len(self.shapes[name]) < 2:
            return Unsaid(_NO_MODULE)
        return self._guessed(name, turned) if self.modules is None else self._known(self.modules, name, turned)

    @cached_property
    def modules(self) -> Modules | None:
        """The model that the config names, if transformers has it.

        Raises:
            Refusal: transformers has it, but cannot create it.
        """
        return Modules.required(self.config)

    @cached_property
    def _groups(self) -> dict[str, Group]:
        return by_file(self.modules.groups(self.shapes)) if self.modules is not None else {}

    @cached_property
    def _is_stacked(self) -> bool:
        """Whether transformers stacks experts of this base on loading."""
        return any(group.converter is not None for group in self._groups.values())

    def _known(self, modules: Modules, name: str, turned: bool | None) -> Module | Unsaid:
        group = self._groups.get(name)
        if group is None:
            return Unsaid("the model that transformers loads does not have it")
        part = group.part(name)
        if part is None:
            return Unsaid("transformers combines it with others on loading")
        path, _, leaf = part.parameter.rpartition(".")
        kind = modules.kind(path)
        if self.config.get("model_type") in MAMBA and path.rpartition(".")[2] in MAMBA_ONLY:
            return Unsaid("PEFT does not adapt it in a Mamba model")
        if modules.in_attention(path):
            return Unsaid("PEFT does not adapt torch's MultiheadAttention correctly")
        if kind == "other":
            return _parameter(modules, name, part, self.shapes[name])
        if leaf != "weight" or part.turned:
            return Unsaid(_NO_MODULE)
        if kind == "conv" and turned is None:
            return Unsaid("it is not a matrix")
        if self._is_stacked and kind == "linear" and path.rpartition(".")[2] in TAKEN:
            return Module(name, path, "parameter", self.shapes[name], leaf)
        return Module(name, path, kind, self.shapes[name])

    def _guessed(self, name: str, turned: bool | None) -> Module | Unsaid:
        path, _, leaf = name.rpartition(".")
        if leaf != "weight":
            return Unsaid(_NO_MODULE)
        if _ROUTER.fullmatch(path):
            return Unsaid("it routes among experts")
        kind = self._kind(path, name, turned)
        return kind if isinstance(kind, Unsaid) else Module(name, path, kind, self.shapes[name])

    def _kind(self, path: str, name: str, turned: bool | None) -> str | Unsaid:
        shape, bias = self.shapes[name], self.shapes.get(f"{path}.bias")
        if len(shape) > 2:
            return "conv" if turned is not None else Unsaid("it is not a matrix")
        if turned is not None:
            return "linear" if not turned else "conv1d" if bias is not None else "embedding"
        if _EXPERT.fullmatch(path):
            return Unsaid("it belongs to an expert, and transformers stacks experts")
        if bias is None:
            return "embedding" if _EMBEDDING.fullmatch(path) else "linear"
        if shape[0] != shape[1]:
            return "conv1d" if bias == shape[1:] else "linear"
        return "conv1d" if stored_in_out_around(self.shapes, name) == {True} else "linear"


def _parameter(modules: Modules, name: str, part: Part, own: Shape) -> Module | Unsaid:
    """A parameter that is a target by its own name: a matrix, or all experts, or some rows of one."""
    path, _, leaf = part.parameter.rpartition(".")
    shape = modules.parameters[part.parameter]
    if not path or len(shape) not in (2, 3):
        return Unsaid(_NO_MODULE)
    order = modules.order(part.parameter)
    if len(shape) == 2:
        plain = part.expert is None and not part.turned
        return Module(name, path, "parameter", own, leaf, order=order) if plain else Unsaid(_NO_MODULE)
    if shape[0] == 1:
        return Unsaid("PEFT cannot merge an adapter of a single stacked expert")
    flipped = modules.stores_in_out(path)
    if part.expert is None:
        return Module(name, path, "experts", own, leaf, flipped=flipped != part.turned, order=order)
    return Module(
        name, path, "expert", shape, leaf, slot=Slot(part.expert, part.start, part.stop), flipped=flipped, order=order
    )
