"""A readout as an object: what is kept is what is read, and what no persona wrote is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona.errors import Damaged, Refusal
from persona.ids import BaseId, CommitId, ReadoutId, TensorId
from persona.store.nouns import TensorSpec
from persona.store.objects import ObjectStore
from persona.store.readouts import StoredReadout, layers_text

A, B, C = (digit * 64 for digit in "abc")


def stored(**changes: Any) -> StoredReadout:
    specs = {layer: TensorSpec(TensorId(B), "F32", (2, 32)) for layer in (3, 4)}
    fields = {"base": BaseId(A), "concepts": ("warmth", "calm"), "layers": (3, 4), "tensors": specs}
    return StoredReadout(**{**fields, **changes})


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path)


@pytest.mark.parametrize("one", [stored(), stored(revision=CommitId(C), about={"auc": [[0.5, 1.0], [0.75, None]]})])
def test_what_is_kept_is_what_is_read(objects: ObjectStore, one: StoredReadout) -> None:
    name = one.put(objects)
    assert StoredReadout.get(objects, name) == one
    assert one.put(objects) == name


def test_an_unknown_revision_is_no_field(objects: ObjectStore) -> None:
    assert "revision" not in objects.get(stored().put(objects), "readout")


def test_no_nan_is_kept(objects: ObjectStore) -> None:
    with pytest.raises(Refusal, match=r"this readout cannot be stored: .*not JSON compliant"):
        stored(about={"auc": [[float("nan")]]}).put(objects)


GOOD = {
    "base": A, "concepts": ["warmth"], "layers": [3], "tensors": {"layer_3.vectors": [B, "F32", [1, 32]]}, "about": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "no id"},
        {"layers": [3, 4]},
        {"layers": []},
        {"concepts": ["warmth", "calm"]},
        {"tensors": {"layer_3.vectors": [B, "BF16", [1, 32]]}},
        {"tensors": {"layer_3.vectors": [B, "F32", [32]]}},
        {"tensors": {"../vectors": [B, "F32", [1, 32]]}},
        {"tensors": {}},
        {"about": 1},
        {"revision": "main"},
    ],
    ids=str,
)
def test_what_no_persona_wrote(objects: ObjectStore, changes: dict[str, Any]) -> None:
    assert StoredReadout.get(objects, ReadoutId(objects.put("readout", GOOD))).layers == (3,)
    name = ReadoutId(objects.put("readout", {**GOOD, **changes}))
    with pytest.raises(Damaged, match="is not a valid readout"):
        StoredReadout.get(objects, name)


def test_layers_as_a_person_writes_them() -> None:
    assert layers_text([3]) == "layer 3"
    assert layers_text([18, 14, 15, 16, 17]) == "layers 14–18"
    assert layers_text([3, 5, 6, 9]) == "layers 3, 5–6, 9"
    assert stored().said == "2 concepts, layers 3–4"
