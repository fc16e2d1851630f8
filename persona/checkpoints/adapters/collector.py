"""What an adapter does to each tensor of the base, as it is collected key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import AdapterConfig
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.keys import Keys
from persona.checkpoints.adapters.model import BaseView, LowRank, MadeDense, values
from persona.checkpoints.adapters.names import BaseNames
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.errors import CheckpointError


@dataclass
class AdapterChanges:
    """The tables of an ``Adapter`` while they fill, tied names still apart."""

    low_rank: dict[str, LowRank] = field(default_factory=dict)
    full: dict[str, TensorInfo] = field(default_factory=dict)
    made: dict[str, MadeDense] = field(default_factory=dict)
    saved: set[str] = field(default_factory=set)
    """Names in ``full`` that ``modules_to_save`` trained."""


class Collector:
    """The file, its config and its base, while the tables fill."""

    def __init__(self, file: TensorFile, keys: Keys, config: AdapterConfig, base: BaseView) -> None:
        self.file, self.keys, self.config, self.base = file, keys, config, base
        self.names = BaseNames(base, file.path)
        self.found = AdapterChanges()
        self.copies = {self.names.require(n, info.name): info for n, info in keys.copies.items()}

    def origin(self, name: str) -> BaseTensor:
        """The W that the adapter's changes of ``name`` are added to."""
        origin = self._base(name)
        info = self.copies.get(name)
        if info is None or self._equals_base(origin, info):
            return origin
        self._check_grown(name, info, origin)
        return dense.of_copy(origin, self.file, info)

    def _base(self, name: str) -> BaseTensor:
        dtype, shape = self.names.known[name]
        return dense.of_base(self.base, name, self.names.tied.get(name, name), dtype, shape)

    def _equals_base(self, origin: BaseTensor, info: TensorInfo) -> bool:
        """Whether the adapter's copy has the base's values (its dtype may be a wider one)."""
        import numpy as np

        if origin.shape != info.shape:
            return False
        return bool((origin.read().view(np.uint32) == values(self.file, info).view(np.uint32)).all())

    def _check_grown(self, name: str, info: TensorInfo, origin: BaseTensor) -> None:
        """A whole tensor may have other rows than the base's if it was saved on purpose or has grown."""
        same_rows = info.shape == origin.shape
        saved = any(self.config.saves(module) for module in _modules(name))
        fits = len(info.shape) == len(origin.shape) and info.shape[1:] == origin.shape[1:] and info.shape
        grown = len(info.shape) == 2 and info.shape[:1] > origin.shape[:1]
        if not (same_rows or (fits and (saved or grown))):
            raise CheckpointError(
                f"{self.file.path}: '{info.name}' has shape {list(info.shape)}, and '{name}' in the base has "
                f"{list(origin.shape)}",
                "The adapter belongs to another base.",
            )

    def add_full(self) -> None:
        """modules_to_save, saved embeddings and biases."""
        for name, info in self.keys.full.items():
            saved = any(self.config.saves(module) for module in _modules(name))
            at = self.names.find(name, info.name) or (name if saved else self.names.require(name, info.name))
            if at in self.names.known:
                self._check_grown(at, info, self._base(at))
            self.found.full[at] = info
            if saved:
                self.found.saved.add(at)

    def add_tokens(self) -> None:
        """trainable_token_indices."""
        for module, info in self.keys.tokens.items():
            name = self.names.require(f"{module}.weight", info.name)
            origin, indices = self.origin(name), _indices(self.config, module)
            if info.shape != (len(indices), *origin.shape[1:]) or max(indices, default=0) >= origin.shape[0]:
                raise CheckpointError(
                    f"{self.file.path}: '{info.name}' has shape {list(info.shape)} for {len(indices)} tokens, and "
                    f"'{name}' in the base has {list(origin.shape)}",
                    "The adapter belongs to another base, or its vocabulary was resized and not saved.",
                )
            self._make_tokens(origin, info, indices)

    def _make_tokens(self, origin: BaseTensor, info: TensorInfo, indices: tuple[int, ...]) -> None:
        self.free(origin.name, info)
        self.found.made[origin.name] = MadeDense(
            origin.name,
            origin.dtype,
            origin.shape,
            "trainable_token_indices",
            lambda: dense.tokens(self.file, origin, info, indices),
        )

    def add_copies(self) -> None:
        """Copies of the base that differ from it and that nothing was added to."""
        for name, info in self.copies.items():
            if name not in self.found.low_rank and name not in self.found.made and self.origin(name).own:
                self.free(name, info)
                self.found.full[name] = info

    def free(self, name: str, info: TensorInfo) -> None:
        """CheckpointError if something else already changes ``name``."""
        if name in self.found.low_rank or name in self.found.full or name in self.found.made:
            raise CheckpointError(
                f"{self.file.path}: '{info.name}' is a second change to '{name}' of the base",
                "Merge the adapter with peft's merge_and_unload and commit the merged folder.",
            )


def _modules(name: str) -> list[str]:
    """The modules that a tensor is in, from the outermost."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _indices(config: AdapterConfig, module: str) -> tuple[int, ...]:
    if not isinstance(config.tokens, Mapping):
        return config.tokens
    ends = (name for name in config.tokens if module == name or module.endswith(f".{name}"))
    return config.tokens.get(next(ends, ""), ())
