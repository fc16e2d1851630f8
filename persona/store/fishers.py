"""Fisher diagonals: which weights an old task needs, kept so that what a run was trained under can be looked at again.

    fisher   {base, data: [digest], examples, tokens, seed, tensors: {name: [id, dtype, shape]}}
              and recipe: recipe id, if it was estimated on what that builds and not on the base alone

Tensors are fp32 in the shape of the base's of that name; ``tokens`` is what the mean is over, ``seed`` what its labels
were drawn by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from persona.checkpoints.tensorfile import TensorFile
from persona.errors import Damaged
from persona.ids import BaseId, FisherId, RecipeId, tensor_id
from persona.progress import SILENT, Progress
from persona.store.nouns import TensorSpec
from persona.store.objects import Fields, ObjectStore
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
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(
                f"fisher {name.short} does not say what a fisher must: {error}",
                "No persona wrote it: do not trust the repository that it came from.",
            ) from error


def ingest_fisher(path: Path, store: TensorStore, progress: Progress = SILENT) -> dict[str, TensorSpec]:
    """Keep the tensors of a safetensors file."""
    file, kept = TensorFile(path), dict[str, TensorSpec]()

    def incoming() -> Iterator[Incoming]:
        for name, info in sorted(file.tensors.items()):
            kept[name] = TensorSpec(tensor_id(info.dtype, info.shape, file.chunks(info)), info.dtype, info.shape)
            yield Incoming(kept[name].id, info.dtype, info.shape, file.data(info), None, f"{path}: {name}")

    with progress.task("storing the Fisher diagonal", file.size) as task, store.writer() as writer:
        writer.add_tensors(incoming(), task)
        writer.finish()
    return kept
