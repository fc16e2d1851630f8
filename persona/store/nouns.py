"""Base and vector objects.

    base     {tensors: {name: [id, dtype, shape]}, files: {name: blob id}, tied: {alias: name}}
    vector   {base, form, tensors: {name: [id, dtype, shape]},
              low_rank: {name: {left, right, left_transposed, right_transposed, scale}},
              gone: [name], files: {name: blob id}, config: {file: [[path, value]]}}
              and baked_from: recipe id, if it is the merge of other vectors
              and terms: [[coefficient, vector id, name]], if it is a sum of other vectors

A vector's ``tensors`` are the fine-tuned tensors, bit for bit; τ = fp32(tensor) − fp32(base tensor) is computed on
reading. ``low_rank`` entries mean τ = scale · left · right, reshaped to the base tensor's shape.

A derived vector has no tensors of its own: τ = c₁τ₁ + c₂τ₂ + …, the sum of those ``terms`` that change the tensor, in
order. It has the files, the settings and the removed tensors of its terms with a positive coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from persona.checkpoints.dtypes import ARITHMETIC, BITS
from persona.checkpoints.settings import CONFIGS
from persona.checkpoints.sidefiles import is_storable, leads_out
from persona.checkpoints.tensorfile import MAX_DIMENSIONS
from persona.ids import BaseId, BlobId, RecipeId, TensorId, VectorId
from persona.store.fields import count, flag, ident, number, one_of, rows, shown, table, text, texts
from persona.store.objects import Fields, ObjectStore, decoding

SMALLEST, LARGEST = 1e-30, 1e9
"""Limits of a coefficient: products with any weight that occurs stay within the range of fp32."""

FORMS = frozenset({"dense", "lora", "baked", "derived"})
DERIVED = "derived"
LARGEST_FILE = 1 << 63
"""Bits of a tensor are below this."""

ConfigPatch = tuple[tuple[tuple[str, ...], Any], ...]
"""Settings that a run changed in one file: (path of keys, new value or None if removed)."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's id, dtype and shape: what planning needs to know of it."""

    id: TensorId
    dtype: str
    shape: tuple[int, ...]

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def encode(self) -> list[Any]:
        """Encode the tensor as a value in an object."""
        return [self.id, self.dtype, list(self.shape)]

    @classmethod
    def decode(cls, value: Any) -> TensorSpec:
        """Decode a value of an object; ValueError if it is not a tensor's id, dtype and shape."""
        name, dtype, shape = rows(value, "a tensor", 3)
        sizes = tuple(count(size, "a size") for size in rows(shape, "a shape"))
        spec = cls(ident(TensorId, name, "a tensor"), one_of(dtype, BITS, "a dtype"), sizes)
        if len(sizes) > MAX_DIMENSIONS or spec.entries * BITS[spec.dtype] >= LARGEST_FILE:
            raise ValueError(f"a tensor has the shape {shown(str(list(sizes)))}")
        return spec


@dataclass(frozen=True)
class LowRankSpec:
    """τ = scale · L · R, with L [rows, r] and R [r, cols]; either may be stored transposed."""

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
        """Encode the factors as a value in an object."""
        return {
            "left": self.left.encode(),
            "right": self.right.encode(),
            "left_transposed": self.left_transposed,
            "right_transposed": self.right_transposed,
            "scale": self.scale,
        }

    @classmethod
    def decode(cls, value: Any) -> LowRankSpec:
        """Decode a value of an object; ValueError or KeyError if it is not two factors that fit."""
        fields = table(value, "low_rank")
        spec = cls(
            TensorSpec.decode(fields["left"]),
            TensorSpec.decode(fields["right"]),
            flag(fields["left_transposed"], "left_transposed"),
            flag(fields["right_transposed"], "right_transposed"),
            number(fields["scale"], "scale"),
        )
        sides = ((spec.left, spec.left_transposed, 1), (spec.right, spec.right_transposed, 0))
        inner = {_as_matrix(side.shape)[axis ^ turned] for side, turned, axis in sides}
        if len(inner) != 1 or not {spec.left.dtype, spec.right.dtype} <= ARITHMETIC:
            raise ValueError("the factors of a low-rank tensor do not fit")
        return spec


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """The first axis and all others together."""
    if len(shape) < 2:
        raise ValueError(f"a factor has the shape {list(shape)} and is no matrix")
    return shape[0], math.prod(shape[1:])


@dataclass(frozen=True)
class SumSpec:
    """τ = Σ cᵢ·τᵢ in this order, with each product and each sum rounded to fp32."""

    parts: tuple[tuple[float, TensorSpec | LowRankSpec], ...]

    @property
    def low_rank(self) -> bool:
        """Whether all terms are low-rank."""
        return all(isinstance(source, LowRankSpec) for _, source in self.parts)


Source = TensorSpec | LowRankSpec | SumSpec
"""Where a τ comes from."""


def parts_of(source: Source) -> tuple[tuple[float, TensorSpec | LowRankSpec], ...]:
    """A source as a sum; a source that is not a sum is its own only term."""
    return source.parts if isinstance(source, SumSpec) else ((1.0, source),)


def rank_of(source: Source) -> int | None:
    """Upper bound of a τ's rank from its factors; None unless all terms are low-rank."""
    ranks = [part.rank for _, part in parts_of(source) if isinstance(part, LowRankSpec)]
    return sum(ranks) if len(ranks) == len(parts_of(source)) else None


@dataclass(frozen=True)
class Base:
    """A pretrained checkpoint: its tensors and its small files, regardless of how it was sharded.

    ``tied`` maps the name of a tied head to the tensor that it shares.
    """

    tensors: Mapping[str, TensorSpec]
    files: Mapping[str, BlobId]
    tied: Mapping[str, str] = field(default_factory=dict)

    def names_of(self, name: str) -> tuple[str, ...]:
        """The names that vectors may list a tensor under: its own and, for a tied head, the shared tensor's."""
        return (name, self.tied[name]) if name in self.tied else (name,)

    def spec(self, name: str) -> TensorSpec | None:
        """The tensor called ``name``, or the one that a tied head of this name shares; None if there is none."""
        return next((self.tensors[n] for n in self.names_of(name) if n in self.tensors), None)

    def put(self, objects: ObjectStore) -> BaseId:
        """Store the base and return its id."""
        fields = {
            "tensors": {name: spec.encode() for name, spec in self.tensors.items()},
            "files": dict(self.files),
            "tied": dict(self.tied),
        }
        return BaseId(objects.put("base", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: BaseId) -> Base:
        """Read a base.

        Raises:
            Damaged: the object is missing, damaged or not a valid base.
        """
        fields = objects.get(name, "base")
        with decoding("base", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Base:
        """Decode the fields of an object; ValueError or KeyError if they are not a base's."""
        tensors = _specs(fields)
        tied = {alias: text(name, f"tied {shown(alias)}") for alias, name in table(fields["tied"], "tied").items()}
        if tied.keys() & tensors.keys() or not set(tied.values()) <= tensors.keys():
            raise ValueError("tied does not name tensors of the base")
        return cls(tensors, checked_files(fields["files"]), tied)


@dataclass(frozen=True)
class TermOf:
    """One term of a derived vector: a vector that is not derived itself, and its name when the sum was made."""

    coefficient: float
    id: VectorId
    name: str


@dataclass(frozen=True)
class Vector:
    """The change that a training run made to a base, or that several vectors make together (``baked_from``, ``terms``).

    ``gone`` lists the base's tensors that the run no longer has. ``parts`` are the vectors of ``terms``; :meth:`whole`
    reads them, :meth:`get` does not.
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
        """Coefficients and vectors that hold the tensors: the terms of a derived vector, otherwise the vector itself."""
        if not self.terms:
            return [(1.0, self)]
        assert self.parts, "read derived vectors with Vector.whole"
        return [(term.coefficient, part) for term, part in zip(self.terms, self.parts, strict=True)]

    @property
    def names(self) -> list[str]:
        """Names of the tensors that it changes or adds."""
        if not self.terms:
            return [*self.tensors, *self.low_rank]
        names = dict.fromkeys(name for _, part in self.weighted for name in part.names)
        return [name for name in names if name not in self.gone]

    def source(self, *names: str) -> Source | None:
        """The τ of a tensor, or None if the vector leaves it alone.

        Args:
            names: The names that the tensor may be listed under (see :meth:`Base.names_of`), most specific first.
                Each term of a sum contributes the first one that it has.
        """
        terms = [(c, spec) for c, part in self.weighted if (spec := part._own(names)) is not None]
        if names[0] in self.gone or not terms:
            return None
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1.0 else SumSpec(tuple(terms))

    def _own(self, names: tuple[str, ...]) -> TensorSpec | LowRankSpec | None:
        return next((s for n in names if (s := self.tensors.get(n) or self.low_rank.get(n)) is not None), None)

    def brings(self, name: str) -> bool:
        """Whether it can add ``name`` to a base without it: subtracted terms add nothing."""
        return name not in self.gone and any(c > 0 and name in part.names for c, part in self.weighted)

    @property
    def wholes(self) -> list[tuple[str, TensorSpec]]:
        """The whole tensors that it can add, by name; a sum may list a name more than once."""
        return [item for c, part in self.weighted if c > 0 for item in part.tensors.items() if item[0] not in self.gone]

    def put(self, objects: ObjectStore) -> VectorId:
        """Store the vector and return its id."""
        return VectorId(objects.put("vector", self.encode()))

    def encode(self) -> Fields:
        """Encode the vector as fields of an object."""
        return {
            "base": self.base,
            "form": self.form,
            "tensors": {name: spec.encode() for name, spec in self.tensors.items()},
            "low_rank": {name: spec.encode() for name, spec in self.low_rank.items()},
            "gone": sorted(self.gone),
            "files": dict(self.files),
            "config": {file: [[list(path), value] for path, value in patch] for file, patch in self.config.items()},
            **(
                {"baked_from": self.baked_from} if self.baked_from else {}
            ),  # left out if empty: older objects keep their ids
            **({"terms": [[term.coefficient, term.id, term.name] for term in self.terms]} if self.terms else {}),
        }

    @classmethod
    def get(cls, objects: ObjectStore, name: VectorId) -> Vector:
        """Read a vector, without the vectors that it is a sum of.

        Raises:
            Damaged: the object is missing, damaged or not a valid vector.
        """
        fields = objects.get(name, "vector")
        with decoding("vector", name):
            return cls.decode(fields)

    @classmethod
    def whole(cls, objects: ObjectStore, name: VectorId) -> Vector:
        """Read a vector and the vectors that it is a sum of.

        Raises:
            Damaged: one of the objects is missing, damaged or not a valid vector.
        """
        vector = cls.get(objects, name)
        if not vector.terms:
            return vector
        parts = tuple(cls.get(objects, term.id) for term in vector.terms)
        with decoding("vector", name):
            for part in parts:
                if part.base != vector.base or part.terms:
                    raise ValueError("a term is itself derived or belongs to another base")
        return replace(vector, parts=parts)

    @classmethod
    def decode(cls, fields: Fields) -> Vector:
        """Decode the fields of an object; ValueError or KeyError if they are not a vector's."""
        low_rank, terms = table(fields["low_rank"], "low_rank"), rows(fields.get("terms", []), "terms")
        vector = cls(
            base=ident(BaseId, fields["base"], "base"),
            form=one_of(fields["form"], FORMS, "form"),
            tensors=_specs(fields),
            low_rank={checked_tensor(name): LowRankSpec.decode(value) for name, value in low_rank.items()},
            gone=texts(fields["gone"], "gone"),
            files=checked_files(fields["files"]),
            config={file: _patch(file, patch) for file, patch in table(fields["config"], "config").items()},
            baked_from=ident(RecipeId, fields["baked_from"], "baked_from") if "baked_from" in fields else None,
            terms=tuple(map(_term, terms)),
        )
        if (vector.form == DERIVED) != bool(terms) or (terms and (vector.tensors or vector.low_rank)):
            raise ValueError("only a derived vector has terms, and it has no tensors of its own")
        return vector


def _specs(fields: Fields) -> dict[str, TensorSpec]:
    tensors = table(fields["tensors"], "tensors")
    return {checked_tensor(name): TensorSpec.decode(value) for name, value in tensors.items()}


def checked_tensor(name: str) -> str:
    """The name of a tensor; ValueError if no safetensors file can have it."""
    if name == "__metadata__":
        raise ValueError(f"{name!r} is not the name of a tensor")
    return name


def _patch(file: str, patch: object) -> ConfigPatch:
    """The settings that a vector changes in one file."""
    if file not in CONFIGS:
        raise ValueError(f"{shown(file)} is not a file of settings")
    pairs = [rows(item, "a setting", 2) for item in rows(patch, file)]
    made = tuple((texts(path, "the keys of a setting"), value) for path, value in pairs)
    if not all(path for path, _ in made):
        raise ValueError("a setting has no key")
    return made


def _term(value: object) -> TermOf:
    coefficient, vector, name = rows(value, "a term", 3)
    if not SMALLEST <= abs(number(coefficient, "a coefficient")) <= LARGEST:
        raise ValueError(f"a term has the coefficient {shown(coefficient)}")
    return TermOf(float(coefficient), ident(VectorId, vector, "a term"), text(name, "the name of a term"))


def checked_files(value: object) -> dict[str, BlobId]:
    """Check names of small files, by the rules by which they are stored.

    Raises:
        ValueError: a name would lead out of the folder that the file is written to, or is not that of a model's file.
    """
    files = table(value, "files")
    for name in files:
        if leads_out(name):
            raise ValueError(f"the file name {shown(name)} leads out of its folder")
        if not is_storable(name):
            raise ValueError(f"{shown(name)} is not the name of a small file of a model")
    return {name: ident(BlobId, blob, f"the file {shown(name)}") for name, blob in files.items()}
