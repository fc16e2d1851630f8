"""Bases and vectors: what their objects say.

    base     {tensors: {name: [id, dtype, shape]}, files: {name: blob id}, tied: {alias: name}}
    vector   {base, form, tensors: {name: [id, dtype, shape]},
              low_rank: {name: {left, right, left_transposed, right_transposed, scale}},
              gone: [name], files: {name: blob id}, config: {file: [[path, value]]}}
              and baked_from: recipe id, if it was made of other vectors

A vector's ``tensors`` are the fine-tuned tensors bit for bit as they came; τ = fp32(tensor) − fp32(base's) is
derived when it is read. ``low_rank`` entries mean τ = scale · left · right, reshaped to the base tensor's shape.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from persona.errors import Damaged
from persona.ids import BaseId, BlobId, Id, RecipeId, TensorId, VectorId
from persona.store.objects import Fields, ObjectStore

ConfigPatch = tuple[tuple[tuple[str, ...], Any], ...]
"""Settings that a run changed in one file: (path of keys, new value or None where it was removed)."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor by id, with what is needed to plan for it."""

    id: TensorId
    dtype: str
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def encode(self) -> list[Any]:
        """As it stands in an object."""
        return [self.id, self.dtype, list(self.shape)]

    @classmethod
    def decode(cls, value: list[Any]) -> TensorSpec:
        """From an object."""
        name, dtype, shape = value
        return cls(TensorId(name), dtype, tuple(shape))


@dataclass(frozen=True)
class LowRankSpec:
    """τ = scale · L · R, with L [rows, r] and R [r, cols]; either may be kept as its transpose."""

    left: TensorSpec
    right: TensorSpec
    left_transposed: bool
    right_transposed: bool
    scale: float

    @property
    def rank(self) -> int:
        """The inner dimension r."""
        return self.left.shape[0] if self.left_transposed else self.left.shape[1]

    def encode(self) -> Fields:
        """As it stands in an object."""
        return {
            "left": self.left.encode(),
            "right": self.right.encode(),
            "left_transposed": self.left_transposed,
            "right_transposed": self.right_transposed,
            "scale": self.scale,
        }

    @classmethod
    def decode(cls, value: Fields) -> LowRankSpec:
        """From an object."""
        return cls(
            TensorSpec.decode(value["left"]),
            TensorSpec.decode(value["right"]),
            value["left_transposed"],
            value["right_transposed"],
            value["scale"],
        )


@dataclass(frozen=True)
class Base:
    """A pretrained checkpoint: its tensors and its other files; how it was sharded is not part of it."""

    tensors: Mapping[str, TensorSpec]
    files: Mapping[str, BlobId]
    tied: Mapping[str, str] = field(default_factory=dict)

    def put(self, objects: ObjectStore) -> BaseId:
        """Keep it; its id."""
        fields = {
            "tensors": {name: spec.encode() for name, spec in self.tensors.items()},
            "files": dict(self.files),
            "tied": dict(self.tied),
        }
        return BaseId(objects.put("base", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: BaseId) -> Base:
        """Read it."""
        fields = objects.get(name, "base")
        with _believed("base", name):
            return cls(
                {name: TensorSpec.decode(value) for name, value in fields["tensors"].items()},
                checked_files(fields["files"]),
                fields["tied"],
            )


@dataclass(frozen=True)
class Vector:
    """What one training run changed in a base, or what several vectors change together (``baked_from``)."""

    base: BaseId
    form: str
    tensors: Mapping[str, TensorSpec]
    low_rank: Mapping[str, LowRankSpec] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    files: Mapping[str, BlobId] = field(default_factory=dict)
    config: Mapping[str, ConfigPatch] = field(default_factory=dict)
    baked_from: RecipeId | None = None

    @property
    def names(self) -> list[str]:
        """The base's tensors that it changes, and the ones it adds."""
        return [*self.tensors, *self.low_rank]

    def put(self, objects: ObjectStore) -> VectorId:
        """Keep it; its id."""
        return VectorId(objects.put("vector", self.encode()))

    def encode(self) -> Fields:
        """As it stands in an object."""
        return {
            "base": self.base,
            "form": self.form,
            "tensors": {name: spec.encode() for name, spec in self.tensors.items()},
            "low_rank": {name: spec.encode() for name, spec in self.low_rank.items()},
            "gone": sorted(self.gone),
            "files": dict(self.files),
            "config": {file: [[list(path), value] for path, value in patch] for file, patch in self.config.items()},
            **({"baked_from": self.baked_from} if self.baked_from else {}),  # absent from others, whose ids stay
        }

    @classmethod
    def get(cls, objects: ObjectStore, name: VectorId) -> Vector:
        """Read it."""
        fields = objects.get(name, "vector")
        with _believed("vector", name):
            return cls._decode(fields)

    @classmethod
    def _decode(cls, fields: Fields) -> Vector:
        return cls(
            base=BaseId(fields["base"]),
            form=fields["form"],
            tensors={name: TensorSpec.decode(value) for name, value in fields["tensors"].items()},
            low_rank={name: LowRankSpec.decode(value) for name, value in fields["low_rank"].items()},
            gone=tuple(fields["gone"]),
            files=checked_files(fields["files"]),
            config={
                file: tuple((tuple(path), value) for path, value in patch) for file, patch in fields["config"].items()
            },
            baked_from=RecipeId(fields["baked_from"]) if "baked_from" in fields else None,
        )


def checked_files(files: Mapping[str, str]) -> dict[str, BlobId]:
    """Small files by name; ValueError if a name would lead out of the folder that it is written into."""
    for name in files:
        if name in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(name):
            raise ValueError(f"it names the file {name!r}, which leaves its folder")
    return {name: BlobId(blob) for name, blob in files.items()}


@contextlib.contextmanager
def _believed(kind: str, name: Id) -> Iterator[None]:
    """Around taking apart an object that has the right hash, and may come from anyone."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(
            f"{kind} {name.short} does not say what a {kind} must: {error}",
            "No persona wrote it: do not trust the repository that it came from.",
        ) from error
