"""Collecting an adapter's changes to the base's tensors, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from persona.checkpoints.adapters import dense
from persona.checkpoints.adapters.config import MERGE, OTHER_BASE, AdapterConfig
from persona.checkpoints.adapters.dense import BaseTensor
from persona.checkpoints.adapters.keys import Keys
from persona.checkpoints.adapters.model import BaseView, LowRank, MadeDense, values
from persona.checkpoints.adapters.names import BaseNames
from persona.checkpoints.tensorfile import TensorFile, TensorInfo
from persona.checkpoints.ties import is_embedding, is_head
from persona.errors import CheckpointError

FEWER = "embeddings saved with fewer rows than the base"


@dataclass
class AdapterChanges:
    """The tables of an ``Adapter`` in progress, before tied names are settled."""

    low_rank: dict[str, LowRank] = field(default_factory=dict)
    full: dict[str, TensorInfo] = field(default_factory=dict)
    made: dict[str, MadeDense] = field(default_factory=dict)
    saved: set[str] = field(default_factory=set)
    """Names in ``full`` that belong to ``modules_to_save``."""


class Collector:
    """An adapter's file, config and base, and the changes collected so far."""

    def __init__(self, file: TensorFile, keys: Keys, config: AdapterConfig, base: BaseView) -> None:
        self.file, self.keys, self.config, self.base = file, keys, config, base
        self.names = BaseNames(base, file.path)
        self.changes = AdapterChanges()
        self.copies = {self.names.require(n, info.name): info for n, info in keys.copies.items()}

    def error(self, what: str, hint: str) -> CheckpointError:
        """An error about the adapter's file."""
        return CheckpointError(f"{self.file.path}: {what}", hint)

    def misfit(self, info: TensorInfo, name: str, shape: tuple[int, ...]) -> CheckpointError:
        """The error for a tensor that does not fit the shape of the base's tensor ``name``."""
        return self.error(f"'{info.name}' is {list(info.shape)} but '{name}' in the base is {list(shape)}", OTHER_BASE)

    def origin(self, name: str) -> BaseTensor:
        """The W that the adapter's changes to ``name`` are added to: the base's, or the adapter's copy if it differs."""
        origin = self._base(name)
        info = self.copies.get(name)
        if info is None or self._equals_base(origin, info):
            return origin
        self._check_rows(name, info, origin)
        if self._has_fewer(name, info, origin):
            return dense.of_rows(origin, self.file, info)
        return dense.of_copy(origin, self.file, info)

    def _base(self, name: str) -> BaseTensor:
        dtype, shape = self.names.known[name]
        return dense.of_base(self.base, name, self.names.tied.get(name, name), dtype, shape)

    def _equals_base(self, origin: BaseTensor, info: TensorInfo) -> bool:
        """Whether the adapter's copy has the base's values (its dtype may be wider, and it may lack rows of padding)."""
        import numpy as np

        if origin.shape != info.shape and not self._has_fewer(origin.name, info, origin):
            return False
        rows = origin.read()[: info.shape[0]] if info.shape else origin.read()
        return bool((rows.view(np.uint32) == values(self.file, info).view(np.uint32)).all())

    def _check_rows(self, name: str, info: TensorInfo, origin: BaseTensor) -> None:
        """Check a whole tensor's shape: rows may differ if it is in ``modules_to_save``, has more, or lacks padding."""
        fits = len(info.shape) == len(origin.shape) and info.shape[1:] == origin.shape[1:] and info.shape
        grown = len(info.shape) == 2 and info.shape[:1] > origin.shape[:1]
        fewer = self._has_fewer(name, info, origin)
        if not (info.shape == origin.shape or fewer or (fits and (self._is_saved(name) or grown))):
            raise self.misfit(info, name, origin.shape)

    def _has_fewer(self, name: str, info: TensorInfo, origin: BaseTensor) -> bool:
        """Whether it is an embedding or head without the last rows of the base's, which are padding of the vocabulary."""
        matrices = len(info.shape) == len(origin.shape) == 2
        return matrices and info.shape[1] == origin.shape[1] and self.lacks_rows(name, info.shape[0], origin)

    def lacks_rows(self, name: str, rows: int, origin: BaseTensor) -> bool:
        """Whether ``rows`` rows can be the first ones of an embedding or head, whose vocabulary the base pads."""
        names = (name, self.names.tied.get(name, name))
        return 0 < rows < origin.shape[0] and any(is_embedding(n) or is_head(n) for n in names)

    def _is_saved(self, name: str) -> bool:
        """Whether a tensor is in a module that ``modules_to_save`` lists."""
        parts = name.split(".")
        return any(self.config.saves(".".join(parts[:n])) for n in range(1, len(parts)))

    def add_full(self) -> None:
        """Add whole tensors: ``modules_to_save``, saved embeddings and biases."""
        for name, info in self.keys.full.items():
            saved = self._is_saved(name)
            at = self.names.find(name, info.name) or self.names.loaded(name)
            at = at or (name if saved else self.names.require(name, info.name))
            self._add_whole(at, info)
            if saved:
                self.changes.saved.add(at)

    def add_whole(self, tensors: Mapping[str, TensorInfo]) -> None:
        """Add tensors that replace those of the base with the same names."""
        for name, info in tensors.items():
            at = self.names.require(name, info.name)
            self.free(at, info)
            self._add_whole(at, info)

    def _add_whole(self, at: str, info: TensorInfo) -> None:
        if at not in self.names.known:
            self.changes.full[at] = info
            return
        origin = self._base(at)
        self._check_rows(at, info, origin)
        if not self._has_fewer(at, info, origin):
            self.changes.full[at] = info
        elif not self._equals_base(origin, info):
            rows = dense.of_rows(origin, self.file, info)
            self.changes.made[at] = MadeDense(at, rows.dtype, rows.shape, FEWER, rows.bits)

    def add_tokens(self) -> None:
        """Add ``trainable_token_indices``."""
        for module, info in self.keys.tokens.items():
            name = self.names.require(f"{module}.weight", info.name)
            origin, indices = self.origin(name), _indices(self.config, module)
            if info.shape != (len(indices), *origin.shape[1:]) or max(indices, default=0) >= origin.shape[0]:
                raise self.error(
                    f"'{info.name}' has shape {list(info.shape)} for {len(indices)} tokens but "
                    f"'{name}' in the base has {list(origin.shape)}",
                    "The adapter was trained on another base, or its resized embedding was not saved.",
                )
            self._make_tokens(origin, info, indices)

    def _make_tokens(self, origin: BaseTensor, info: TensorInfo, indices: tuple[int, ...]) -> None:
        self.free(origin.name, info)
        make = partial(dense.tokens, self.file, origin, info, indices)
        self.changes.made[origin.name] = MadeDense(
            origin.name, origin.dtype, origin.shape, "trainable_token_indices", make
        )

    def add_copies(self) -> None:
        """Add copies of base tensors that differ from the base and have no other change."""
        for name, info in self.copies.items():
            if name not in self.changes.low_rank and name not in self.changes.made and self.origin(name).own:
                self.free(name, info)
                self._add_whole(name, info)

    def free(self, name: str, info: TensorInfo) -> None:
        """Raise CheckpointError if ``name`` already has a change."""
        if name in self.changes.low_rank or name in self.changes.full or name in self.changes.made:
            raise self.error(f"'{info.name}' is a second change to '{name}' of the base", MERGE)


def _indices(config: AdapterConfig, module: str) -> tuple[int, ...]:
    if not isinstance(config.tokens, Mapping):
        return config.tokens
    matches = (name for name in config.tokens if module == name or module.endswith(f".{name}"))
    return config.tokens.get(next(matches, ""), ())
