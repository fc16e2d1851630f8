"""Finding the base tensor that a model's name means.

A name in an adapter is a name in the model that was trained; the base's names are those of its files. They differ
where the adapter was trained on the bare ``AutoModel`` (no ``model.``), or the reverse, and where transformers 5
renamed modules when it loaded the files (transformers/conversion_mapping.py). A name is resolved if exactly one
base tensor can be meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from persona.checkpoints.adapters.model import BaseView
from persona.errors import CheckpointError

RENAMED: Final = (
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "model."),
    ("lm_head.", "language_model.lm_head."),
)
"""Beginnings that transformers 5 renamed, tried both ways."""
MIDDLES: Final = ((".mlp.", ".block_sparse_moe."),)
"""Parts within a name that transformers 5 renamed, tried both ways."""


class BaseNames:
    """The names of a base, tied ones included, and what was asked of them."""

    def __init__(self, base: BaseView, path: Path) -> None:
        self.base, self.path = base, path
        own, self.tied = dict(base.names), dict(base.tied)
        self.known = {**own, **{alias: own[name] for alias, name in self.tied.items()}}
        self._ends: dict[str, list[str]] = {}
        for name in self.known:
            for end in _without_prefix(name):
                self._ends.setdefault(end, []).append(name)

    def find(self, name: str, key: str) -> str | None:
        """The base's name for ``name``, or None; CheckpointError if several could be meant by ``key``."""
        if name in self.known:
            return name
        meant = sorted(self._meant(name))
        if len(meant) > 1:
            raise CheckpointError(
                f"{self.path}: the key '{key}' could mean {' or '.join(repr(n) for n in meant)} in the base",
                "Train the adapter on the model class that the base's config names, and save it again.",
            )
        return meant[0] if meant else None

    def require(self, name: str, key: str) -> str:
        """The base's name for ``name``; CheckpointError names the closest ones if there is none."""
        found = self.find(name, key)
        if found is None:
            close = difflib.get_close_matches(name, self.known, n=3, cutoff=0.5) or sorted(self.known)[:3]
            raise CheckpointError(
                f"{self.path}: the key '{key}' acts on '{name}', which the base does not have",
                f"The adapter belongs to another base, or to another class of model. Closest in this base: "
                f"{', '.join(close)}.",
            )
        return found

    def _meant(self, name: str) -> set[str]:
        meant = set(self._ends.get(name, ()))
        meant |= {end for end in _without_prefix(name) if end in self.known}
        return meant | {other for other in _renamed(name) if other in self.known}


def _without_prefix(name: str) -> Iterator[str]:
    """``name`` less one, two, … leading parts, down to a module and its tensor, and never into a layer's number."""
    parts = name.split(".")
    for at in range(1, len(parts) - 1):
        if parts[at - 1].isdigit():
            return
        if not parts[at].isdigit():
            yield ".".join(parts[at:])


def _renamed(name: str) -> Iterator[str]:
    for one, other in (*RENAMED, *((b, a) for a, b in RENAMED)):
        if name.startswith(one):
            yield other + name.removeprefix(one)
    for one, other in (*MIDDLES, *((b, a) for a, b in MIDDLES)):
        if one in name:
            yield name.replace(one, other)
