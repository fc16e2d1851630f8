"""Fisher diagonals: which weights a task needs. What a run was trained under is kept, and what merging weighs a vector by.

    fisher   {base, data: [digest], examples, tokens, seed, tensors: {name: [id, dtype, shape]}}
              and recipe: recipe id, if it was estimated on what that builds and not on the base alone
              and trace, norm: Σ F and √Σ F², if a recipe may weigh the vector by it

Tensors are fp32 in the shape of the base's of that name; ``tokens`` is what the mean is over, ``seed`` what its labels
were drawn by. A vector is weighed by a diagonal that was estimated on the base with that vector alone, at an alpha of 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona.errors import Damaged
from persona.ids import BaseId, FisherId, RecipeId, tensor_id
from persona.progress import SILENT, Progress
from persona.store.nouns import TensorSpec
from persona.store.objects import Fields, ObjectStore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.store.packwriter import Incoming
    from persona.store.tensors import TensorStore


@dataclass(frozen=True)
class Fisher:
    """A diagonal, by the base's names of tensors."""

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
        """Of all tensors."""
        return sum(spec.entries for spec in self.tensors.values())

    @property
    def mean(self) -> float:
        """Σ F / n; 0 where it is not known."""
        return (self.trace or 0.0) / max(1, self.entries)

    def put(self, objects: ObjectStore) -> FisherId:
        """Keep it; its id."""
        return FisherId(objects.put("fisher", self.encode()))

    def encode(self) -> Fields:
        """As it stands in an object."""
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
        """Read it."""
        fields = objects.get(name, "fisher")
        try:
            return cls(
                base=BaseId(fields["base"]),
                data=tuple(map(str, fields["data"])),
                examples=int(fields["examples"]),
                tokens=int(fields["tokens"]),
                seed=int(fields["seed"]),
                tensors={key: TensorSpec.decode(value) for key, value in fields["tensors"].items()},
                recipe=RecipeId(fields["recipe"]) if "recipe" in fields else None,
                trace=_size(fields["trace"]) if "trace" in fields else None,
                norm=_size(fields["norm"]) if "trace" in fields else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(
                f"fisher {name.short} does not say what a fisher must: {error}",
                "No persona wrote it: do not trust the repository that it came from.",
            ) from error


def _size(value: float) -> float:
    """A sum that no negative entry is in; ValueError if it is none."""
    if not 0 <= value < math.inf:  # also false for NaN
        raise ValueError(f"{value} is no sum of what is not negative")
    return float(value)


def ingest_fisher(path: Path, store: TensorStore, progress: Progress = SILENT) -> dict[str, TensorSpec]:
    """Keep the tensors of a safetensors file."""
    from persona.checkpoints.tensorfile import TensorFile
    from persona.store.packwriter import Incoming

    file = TensorFile(path)

    def incoming() -> Iterator[tuple[str, Incoming]]:
        for name, info in sorted(file.tensors.items()):
            own = tensor_id(info.dtype, info.shape, file.chunks(info))
            yield name, Incoming(own, info.dtype, info.shape, file.data(info), None, f"{path}: {name}")

    return _kept(incoming(), file.size, store, progress)


def keep_fisher(
    tensors: Mapping[str, npt.NDArray[np.float32]], store: TensorStore, progress: Progress = SILENT
) -> dict[str, TensorSpec]:
    """Keep a diagonal that is in memory: fp32, row-major."""
    import numpy as np

    from persona.store.packwriter import Incoming

    def incoming() -> Iterator[tuple[str, Incoming]]:
        for name, one in sorted(tensors.items()):
            data = np.ascontiguousarray(one).reshape(-1).view(np.uint8)
            yield name, Incoming(tensor_id("F32", one.shape, [data]), "F32", one.shape, data, None, name)

    return _kept(incoming(), sum(one.nbytes for one in tensors.values()), store, progress)


def _kept(
    tensors: Iterable[tuple[str, Incoming]], nbytes: int, store: TensorStore, progress: Progress
) -> dict[str, TensorSpec]:
    kept = dict[str, TensorSpec]()

    def incoming() -> Iterator[Incoming]:
        for name, one in tensors:
            kept[name] = TensorSpec(one.id, one.dtype, one.shape)
            yield one

    with progress.task("storing the Fisher diagonal", nbytes) as task, store.writer() as writer:
        writer.add_tensors(incoming(), task)
        writer.finish()
    return kept
