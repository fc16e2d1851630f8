"""Readout objects: concepts, layers, and directions as tensors.

    readout   {base, concepts, layers, tensors: {"layer_3.vectors": [id, dtype, shape]}, about: {…}}
              and revision: id of the commit that it was captured on, if known

The tensors are F32 ``[concepts, hidden]``, as in ``vectors.safetensors``. ``about`` holds the rest of the manifest as
JSON without NaN. ``revision`` is informational and need not be a commit of this repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from persona.ids import BaseId, CommitId, ReadoutId
from persona.store.fields import count, ident, rows, table, texts
from persona.store.nouns import TensorSpec
from persona.store.objects import Fields, ObjectStore, decoding

_LAYER = re.compile(r"layer_(\d+)\.vectors")


@dataclass(frozen=True)
class StoredReadout:
    """A readout; ``tensors`` holds its directions by layer."""

    base: BaseId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    tensors: Mapping[int, TensorSpec]
    revision: CommitId | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """A short description, such as ``3 concepts, layers 14–18``."""
        many = "concept" if len(self.concepts) == 1 else "concepts"
        return f"{len(self.concepts)} {many}, {layers_text(self.layers)}"

    def put(self, objects: ObjectStore) -> ReadoutId:
        """Store the readout and return its id."""
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
        """Read a readout.

        Raises:
            Damaged: the object is missing, damaged or not a valid readout.
        """
        fields = objects.get(name, "readout")
        with decoding("readout", name):
            return cls.decode(fields)

    @classmethod
    def decode(cls, fields: Fields) -> StoredReadout:
        """Decode the fields of an object; ValueError or KeyError if they are not a readout's."""
        tensors = table(fields["tensors"], "tensors").items()
        readout = cls(
            base=ident(BaseId, fields["base"], "base"),
            concepts=texts(fields["concepts"], "concepts"),
            layers=tuple(count(layer, "a layer") for layer in rows(fields["layers"], "layers")),
            tensors={_layer(name): TensorSpec.decode(value) for name, value in tensors},
            revision=ident(CommitId, fields["revision"], "revision") if "revision" in fields else None,
            about=table(fields["about"], "about"),
        )
        specs = readout.tensors.values()
        shapes = {spec.shape for spec in specs}
        if sorted(readout.tensors) != list(readout.layers) or len(shapes) != 1 or not readout.layers:
            raise ValueError("its tensors do not match its layers")
        [shape] = shapes
        if len(shape) != 2 or shape[0] != len(readout.concepts) or {spec.dtype for spec in specs} != {"F32"}:
            raise ValueError("its tensors do not have one row per concept")
        return readout


def _layer(name: str) -> int:
    match = _LAYER.fullmatch(name)
    if match is None:
        raise ValueError(f"unexpected tensor {name!r}")
    return int(match[1])


def layers_text(layers: Sequence[int]) -> str:
    """Format layer indices: ``layers 14–18``, ``layer 3``, ``layers 3, 5–7``."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    parts = [str(a) if a == b else f"{a}–{b}" for a, b in runs]
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(parts)}"
