"""Bases and vectors: what their objects say.

    base     {tensors: {name: [id, dtype, shape]}, files: {name: blob id}, tied: {alias: name}}
    vector   {base, form, tensors: {name: [id, dtype, shape]},
              low_rank: {name: {left, right, left_transposed, right_transposed, scale}},
              gone: [name], files: {name: blob id}, config: {file: [[path, value]]}}
              and baked_from: recipe id, if it was made of other vectors
              and terms: [[coefficient, vector id, name]], if it is a sum of other vectors

A vector's ``tensors`` are the fine-tuned tensors bit for bit as they came; τ = fp32(tensor) − fp32(base's) is
derived when it is read. ``low_rank`` entries mean τ = scale · left · right, reshaped to the base tensor's shape.

A derived vector has no tensors of its own: τ = c₁τ₁ + c₂τ₂ + …, the sum of those ``terms`` that change the tensor, in
their order. It has the files, the settings and the missing tensors of its terms with a positive coefficient.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from persona.errors import Damaged
from persona.ids import BaseId, BlobId, Id, RecipeId, TensorId, VectorId
from persona.store.objects import Fields, ObjectStore

SMALLEST, LARGEST = 1e-30, 1e9
"""Of a coefficient: what fp32 has, with room for any weight that occurs."""

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
class SumSpec:
    """τ = Σ cᵢ·τᵢ in this order: each product and each sum in fp32, rounded."""

    parts: tuple[tuple[float, TensorSpec | LowRankSpec], ...]

    @property
    def low_rank(self) -> bool:
        """Whether it is a sum of products of factors alone."""
        return all(isinstance(source, LowRankSpec) for _, source in self.parts)


Source = TensorSpec | LowRankSpec | SumSpec
"""Where a τ comes from."""


def parts_of(source: Source) -> tuple[tuple[float, TensorSpec | LowRankSpec], ...]:
    """A source as a sum: itself, once, unless it is one."""
    return source.parts if isinstance(source, SumSpec) else ((1.0, source),)


def rank_of(source: Source) -> int | None:
    """The rank that a τ has at most by its factors; None where it is a whole tensor's."""
    ranks = [part.rank for _, part in parts_of(source) if isinstance(part, LowRankSpec)]
    return sum(ranks) if len(ranks) == len(parts_of(source)) else None


@dataclass(frozen=True)
class Base:
    """A pretrained checkpoint: its tensors and its other files; how it was sharded is not part of it."""

    tensors: Mapping[str, TensorSpec]
    files: Mapping[str, BlobId]
    tied: Mapping[str, str] = field(default_factory=dict)

    def names_of(self, name: str) -> tuple[str, ...]:
        """Under which names vectors may have a tensor: its own, and of a tied head that of the matrix that it shares."""
        return (name, self.tied[name]) if name in self.tied else (name,)

    def spec(self, name: str) -> TensorSpec | None:
        """The tensor of that name, of a tied head the matrix that it shares; None if there is none."""
        return next((self.tensors[one] for one in self.names_of(name) if one in self.tensors), None)

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
class TermOf:
    """One term of a derived vector: a vector that is not derived, and what it was called then."""

    coefficient: float
    id: VectorId
    name: str


@dataclass(frozen=True)
class Vector:
    """What one training run changed in a base, or what several vectors change together (``baked_from``, ``terms``).

    ``parts`` are the vectors of ``terms``: :meth:`whole` reads them, :meth:`get` does not.
    """

    base: BaseId
    form: str
    tensors: Mapping[str, TensorSpec]
    low_rank: Mapping[str, LowRankSpec] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    files: Mapping[str, BlobId] = field(default_factory=dict)
    config: Mapping[str, ConfigPatch] = field(default_factory=dict)
    baked_from: RecipeId | None = None
    terms: tuple[TermOf, ...] = ()
    parts: tuple[Vector, ...] = field(default=(), compare=False, repr=False)

    @property
    def weighted(self) -> list[tuple[float, Vector]]:
        """The vectors that have its tensors, with their coefficients: itself, unless it is derived."""
        if not self.terms:
            return [(1.0, self)]
        assert self.parts, "a derived vector is read with Vector.whole"
        return [(term.coefficient, part) for term, part in zip(self.terms, self.parts, strict=True)]

    @property
    def names(self) -> list[str]:
        """The base's tensors that it changes, and the ones it adds."""
        if not self.terms:
            return [*self.tensors, *self.low_rank]
        names = dict.fromkeys(name for _, part in self.weighted for name in part.names)
        return [name for name in names if name not in self.gone]

    def source(self, *names: str) -> Source | None:
        """The τ that it has under the first of ``names``; a sum takes of each term the first that the term has."""
        found = [(c, spec) for c, part in self.weighted if (spec := part._own(names)) is not None]
        if names[0] in self.gone or not found:
            return None
        return found[0][1] if len(found) == 1 and found[0][0] == 1.0 else SumSpec(tuple(found))

    def _own(self, names: tuple[str, ...]) -> TensorSpec | LowRankSpec | None:
        return next((s for n in names if (s := self.tensors.get(n) or self.low_rank.get(n)) is not None), None)

    def brings(self, name: str) -> bool:
        """Whether it has ``name`` and could bring it to a base that has not: no term that is taken away does."""
        return name not in self.gone and any(c > 0 and name in part.names for c, part in self.weighted)

    @property
    def wholes(self) -> list[tuple[str, TensorSpec]]:
        """The whole tensors that it could bring, by their names; a sum of several may have a name more than once."""
        return [one for c, part in self.weighted if c > 0 for one in part.tensors.items() if one[0] not in self.gone]

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
            **({"terms": [[one.coefficient, one.id, one.name] for one in self.terms]} if self.terms else {}),
        }

    @classmethod
    def get(cls, objects: ObjectStore, name: VectorId) -> Vector:
        """Read it."""
        fields = objects.get(name, "vector")
        with _believed("vector", name):
            return cls._decode(fields)

    @classmethod
    def whole(cls, objects: ObjectStore, name: VectorId) -> Vector:
        """Read it, and the vectors that it is a sum of."""
        vector = cls.get(objects, name)
        if not vector.terms:
            return vector
        parts = tuple(cls.get(objects, term.id) for term in vector.terms)
        with _believed("vector", name):
            for part in parts:
                if part.base != vector.base or part.terms:
                    raise ValueError("it is a sum of vectors that are derived, or of another base")
        return replace(vector, parts=parts)

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
            terms=tuple(_term(*one) for one in fields.get("terms", ())),
        )


def _term(coefficient: float, name: str, said: str) -> TermOf:
    if not SMALLEST <= abs(coefficient) <= LARGEST:  # also false for NaN
        raise ValueError(f"a term has the coefficient {coefficient}")
    return TermOf(float(coefficient), VectorId(name), str(said))


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
