"""Readouts as objects: what they measure and where, and their directions as tensors.

    readout   {base, concepts, layers, tensors: {"layer_3.vectors": [id, dtype, shape]}, about: {…}}
              and revision: commit id, if it is known what it was captured on

The tensors are F32 ``[concepts, hidden]``, as in ``vectors.safetensors``. ``about`` is what the manifest says besides, as
JSON; no NaN. ``revision`` need not be a commit of this repository: nothing here depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from persona.errors import Damaged
from persona.ids import BaseId, CommitId, ReadoutId
from persona.store.nouns import TensorSpec
from persona.store.objects import Fields, ObjectStore

_LAYER = re.compile(r"layer_(\d+)\.vectors")


@dataclass(frozen=True)
class StoredReadout:
    """A readout, its directions by id. ``tensors`` are by layer."""

    base: BaseId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    tensors: Mapping[int, TensorSpec]
    revision: CommitId | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What it measures and where, in a few words: ``3 concepts, layers 14–18``."""
        many = "concept" if len(self.concepts) == 1 else "concepts"
        return f"{len(self.concepts)} {many}, {layers_text(self.layers)}"

    def put(self, objects: ObjectStore) -> ReadoutId:
        """Keep it; its id."""
        fields = {
            "base": self.base,
            "concepts": list(self.concepts),
            "layers": list(self.layers),
            "tensors": {f"layer_{layer}.vectors": spec.encode() for layer, spec in self.tensors.items()},
            "about": dict(self.about),
            **({"revision": self.revision} if self.revision else {}),
        }
        return ReadoutId(objects.put("readout", fields))

    @classmethod
    def get(cls, objects: ObjectStore, name: ReadoutId) -> StoredReadout:
        """Read it."""
        fields = objects.get(name, "readout")
        try:
            return cls._decode(fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(
                f"readout {name.short} does not say what a readout must: {error}",
                "No persona wrote it: do not trust the repository that it came from.",
            ) from error

    @classmethod
    def _decode(cls, fields: Fields) -> StoredReadout:
        found = cls(
            base=BaseId(fields["base"]),
            concepts=tuple(str(name) for name in fields["concepts"]),
            layers=tuple(int(layer) for layer in fields["layers"]),
            tensors={_layer(name): TensorSpec.decode(value) for name, value in fields["tensors"].items()},
            revision=CommitId(fields["revision"]) if "revision" in fields else None,
            about=dict(fields["about"]),
        )
        shapes = {spec.shape for spec in found.tensors.values()}
        if sorted(found.tensors) != list(found.layers) or len(shapes) != 1 or not found.layers:
            raise ValueError("its tensors are not those of its layers")
        [shape] = shapes
        if len(shape) != 2 or shape[0] != len(found.concepts) or {s.dtype for s in found.tensors.values()} != {"F32"}:
            raise ValueError("its tensors are not a row for each concept")
        return found


def _layer(name: str) -> int:
    match = _LAYER.fullmatch(name)
    if match is None:
        raise ValueError(f"it names the tensor {name!r}")
    return int(match[1])


def layers_text(layers: Sequence[int]) -> str:
    """Indices as a person writes them: ``layers 14–18``, ``layer 3``, ``layers 3, 5–7``."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    parts = [str(a) if a == b else f"{a}–{b}" for a, b in runs]
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(parts)}"
