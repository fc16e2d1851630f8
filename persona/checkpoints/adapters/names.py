"""Resolving names in an adapter to tensors of the base.

An adapter uses the names of the model that was trained, the base those of its files. They differ if the adapter was
trained on the bare ``AutoModel`` (no ``model.``) or vice versa, and where transformers 5 renames modules on loading
(transformers/conversion_mapping.py). A name is resolved only if it matches exactly one base tensor. The common cases are
known here; where they do not give an answer, the installed transformers is asked (``checkpoints.modules``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from persona.checkpoints.adapters.model import BaseView
from persona.checkpoints.wrappers import without_leading
from persona.errors import CheckpointError

if TYPE_CHECKING:
    from persona.checkpoints.conversions import Group

RENAMED: Final = (
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "model."),
    ("lm_head.", "language_model.lm_head."),
)
"""Prefixes that transformers 5 renamed, tried in both directions."""
MIDDLES: Final = ((".mlp.", ".block_sparse_moe."),)
"""Parts of names that transformers 5 renamed, tried in both directions."""


class BaseNames:
    """The tensor names of a base, including tied ones."""

    def __init__(self, base: BaseView, path: Path) -> None:
        self.base, self.path = base, path
        own, self.tied = dict(base.names), dict(base.tied)
        self.known = {**own, **{alias: own[name] for alias, name in self.tied.items()}}
        self._ends: dict[str, list[str]] = {}
        for name in self.known:
            for end in without_leading(name):
                self._ends.setdefault(end, []).append(name)

    def find(self, name: str, key: str) -> str | None:
        """The base's name for ``name``, or None if there is none.

        Args:
            key: The adapter's key, for the error.

        Raises:
            CheckpointError: several tensors match.
        """
        if name in self.known:
            return name
        matches = sorted(self._matches(name))
        if len(matches) > 1:
            if (loaded := self.loaded(name)) is not None:
                return loaded
            raise CheckpointError(
                f"{self.path}: the key '{key}' could mean {' or '.join(repr(n) for n in matches)} in the base",
                "Train the adapter on the model class that the base's config names, and save it again.",
            )
        return matches[0] if matches else None

    def require(self, name: str, key: str) -> str:
        """Like :meth:`find`, but raises CheckpointError if there is none."""
        tensor = self.find(name, key) or self.loaded(name)
        if tensor is None:
            close = difflib.get_close_matches(name, self.known, n=3, cutoff=0.5) or sorted(self.known)[:3]
            raise CheckpointError(
                f"{self.path}: the key '{key}' acts on '{name}', which the base does not have",
                f"The adapter was trained on another base or model class. Similar names in this base: {', '.join(close)}.",
            )
        return tensor

    def loaded(self, name: str) -> str | None:
        """The base tensor that transformers loads as ``name``, or None if there is none, or it is converted as well."""
        prefix = self.base.modules.prefix if self.base.modules is not None else ""
        groups = (self.groups.get(one) for one in (name, f"{prefix}{name}", name.removeprefix(prefix)))
        return next((group.files[0] for group in groups if group is not None and group.converter is None), None)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Parameters of the loaded model → the base tensors that they are made of; empty if transformers does not have it."""
        modules = self.base.modules
        if modules is None:
            return {}
        shapes = {name: shape for name, (_, shape) in self.known.items()}
        return {parameter: group for group in modules.groups(shapes) for parameter in group.parameters}

    def _matches(self, name: str) -> set[str]:
        candidates = {*without_leading(name), *_renamed(name)}
        return {*self._ends.get(name, ()), *(other for other in candidates if other in self.known)}


def _renamed(name: str) -> Iterator[str]:
    for before, after in (*RENAMED, *((b, a) for a, b in RENAMED)):
        if name.startswith(before):
            yield after + name.removeprefix(before)
    for before, after in (*MIDDLES, *((b, a) for a, b in MIDDLES)):
        if before in name:
            yield name.replace(before, after)
