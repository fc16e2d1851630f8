"""Fisher diagonals: how much a task depends on each weight. Used as a training penalty and as weights in merging.

    fisher   {base, data: [digest], examples, tokens, seed, tensors: {name: [id, dtype, shape]}}
              and recipe: recipe id, if it was estimated on the model that this recipe builds and not on the base
              and trace, norm: Σ F and √Σ F², if a recipe may weight the vector by it

Tensors are fp32 in the shape of the base's tensor of the same name; ``tokens`` is the number of tokens averaged over,
``seed`` the seed that sampled the labels. A diagonal that weights a vector was estimated on the base plus that vector
alone, with an alpha of 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.ids import BaseId, FisherId, ObjectId, RecipeId, tensor_id
from persona.progress import SILENT, Progress
from persona.store.fields import count, ident, number, rows, shown, table, whole
from persona.store.nouns import TensorSpec, checked_tensor
from persona.store.objects import Fields, ObjectStore, decoding

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.store.packwriter import Incoming
    from persona.store.tensors import TensorStore


@dataclass(frozen=True)
class Fisher:
    """A Fisher diagonal; ``tensors`` are by the base's tensor names."""

    base: BaseId
    data: tuple[str, ...]
    examples: int
    tokens: int
    seed: int
    tensors: Mapping[str, TensorSpec]
    recipe: RecipeId | None = None
    trace: float | None = None
    norm: float | None = None

    @property
    def entries(self) -> int:
        """Number of entries of all tensors."""
        return sum(spec.entries for spec in self.tensors.values())

    @property
    def mean(self) -> float:
        """Mean of the diagonal, Σ F / n; 0 if unknown."""
        return (self.trace or 0.0) / max(1, self.entries)

    def put(self, objects: ObjectStore) -> FisherId:
        """Store the diagonal and return its id."""
        return FisherId(objects.put("fisher", self.encode()))

    def encode(self) -> Fields:
        """Encode the diagonal as fields of an object."""
        return {
            "base": self.base,
            "data": list(self.data),
            "examples": self.examples,
            "tokens": self.tokens,
            "seed": self.seed,
            "tensors": {name: spec.encode() for name, spec in self.tensors.items()},
            **({"recipe": self.recipe} if self.recipe else {}),
            **({"trace": self.trace, "norm": self.norm} if self.trace is not None else {}),
        }

    @classmethod
    def get(cls, objects: ObjectStore, name: FisherId) -> Fisher:
        """Read a diagonal.

        Raises:
            Damaged: the object is missing, damaged or not a valid diagonal.
        """
        fields = objects.get(name, "fisher")
        with decoding("fisher", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> Fisher:
        """Decode the fields of an object; ValueError or KeyError if they are not a diagonal's."""
        tensors = table(fields["tensors"], "tensors").items()
        diagonal = cls(
            base=ident(BaseId, fields["base"], "base"),
            data=tuple(ident(ObjectId, digest, "data") for digest in rows(fields["data"], "data")),
            examples=count(fields["examples"], "examples"),
            tokens=count(fields["tokens"], "tokens"),
            seed=whole(fields["seed"], "seed"),
            tensors={checked_tensor(key): TensorSpec.decode(value) for key, value in tensors},
            recipe=ident(RecipeId, fields["recipe"], "recipe") if "recipe" in fields else None,
            trace=_size(fields, "trace") if "trace" in fields else None,
            norm=_size(fields, "norm") if "trace" in fields else None,
        )
        if any(spec.dtype != "F32" for spec in diagonal.tensors.values()):
            raise ValueError("its tensors are not F32")
        return diagonal


def _size(fields: Fields, key: str) -> float:
    """A sum of non-negative numbers."""
    value = number(fields[key], key)
    if value < 0:
        raise ValueError(f"{key} is {shown(value)} and not a sum of non-negative numbers")
    return float(value)


def ingest_fisher(path: Path, store: TensorStore, progress: Progress = SILENT) -> dict[str, TensorSpec]:
    """Store the tensors of a safetensors file as a diagonal; returns them by name."""
    from persona.checkpoints.tensorfile import TensorFile
    from persona.store.packwriter import Incoming

    file = TensorFile(path)

    def incoming() -> Iterator[tuple[str, Incoming]]:
        for name, info in sorted(file.tensors.items()):
            own = tensor_id(info.dtype, info.shape, file.chunks(info))
            yield name, Incoming(own, info.dtype, info.shape, file.lazy(info), None, f"{path}: {name}")

    return _store(incoming(), file.size, store, progress)


def keep_fisher(
    tensors: Mapping[str, npt.NDArray[np.float32]], store: TensorStore, progress: Progress = SILENT
) -> dict[str, TensorSpec]:
    """Store a diagonal that is in memory; returns its tensors by name."""
    import numpy as np

    from persona.store.packwriter import Incoming

    def incoming() -> Iterator[tuple[str, Incoming]]:
        for name, values in sorted(tensors.items()):
            data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            yield name, Incoming(tensor_id("F32", values.shape, [data]), "F32", values.shape, data, None, name)

    return _store(incoming(), sum(values.nbytes for values in tensors.values()), store, progress)


def _store(
    tensors: Iterable[tuple[str, Incoming]], nbytes: int, store: TensorStore, progress: Progress
) -> dict[str, TensorSpec]:
    kept = dict[str, TensorSpec]()

    def incoming() -> Iterator[Incoming]:
        for name, tensor in tensors:
            kept[name] = TensorSpec(tensor.id, tensor.dtype, tensor.shape)
            yield tensor

    with progress.task("storing the Fisher diagonal", nbytes) as task, store.writer() as writer:
        writer.add_tensors(incoming(), task)
        writer.finish()
    return kept
