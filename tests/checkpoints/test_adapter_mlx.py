"""Adapters of mlx-lm, written by hand as its tuner saves them; expected weights by its ``fuse`` in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from persona.checkpoints.adapter import open_adapter
from persona.checkpoints.dtypes import narrow, widen
from persona.errors import CheckpointError
from tests.checkpoints.peft_folders import FakeBase, rebuilt

LORA = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 2, "scale": 10.0, "dropout": 0.0}}
Q, EMBEDDING, SQUARE = "model.layers.0.self_attn.q_proj", "model.embed_tokens", "model.layers.0.self_attn.o_proj"
ENTRIES = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return ENTRIES.standard_normal(shape, np.float32)


def base() -> FakeBase:
    shapes = {f"{Q}.weight": (6, 4), f"{EMBEDDING}.weight": (9, 4), f"{SQUARE}.weight": (4, 4), f"{Q}.bias": (6,)}
    for expert in range(3):
        shapes[f"model.layers.0.block_sparse_moe.experts.{expert}.w1.weight"] = (5, 4)
    return FakeBase({name: ("F32", narrow(random(*shape), "F32")) for name, shape in shapes.items()})


def write(folder: Path, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "adapters.safetensors")
    save_file(tensors, folder / "0000100_adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def weights(tensors: FakeBase, name: str) -> np.ndarray:
    return widen(tensors.bits(name), "F32")


@pytest.mark.parametrize("dora", [False, True])
def test_layers_and_embeddings(dora: bool, tmp_path: Path) -> None:
    tensors, wanted, before = {}, {}, base()
    for module, rows, columns in ((Q, 6, 4), (EMBEDDING, 9, 4), (SQUARE, 4, 4)):
        sides = (rows, columns) if module == EMBEDDING else (columns, rows)
        a, b, m = random(sides[0], 2), random(2, sides[1]), random(rows)
        tensors |= {f"{module}.lora_a": a, f"{module}.lora_b": b, **({f"{module}.m": m} if dora else {})}
        weight = weights(before, f"{module}.weight") + (10 * a @ b if module == EMBEDDING else 10 * b.T @ a.T)
        wanted[f"{module}.weight"] = (m / np.linalg.norm(weight, axis=1))[:, None] * weight if dora else weight
    folder = write(tmp_path / "a", tensors, {**LORA, "fine_tune_type": "dora" if dora else "lora"})
    adapter = open_adapter(folder, before)
    made = rebuilt(adapter, before)
    assert set(adapter.made if dora else adapter.low_rank) == set(wanted)
    for name, weight in wanted.items():
        np.testing.assert_allclose(widen(made[name][1], "F32"), weight, rtol=1e-5, atol=1e-5)


def test_experts_and_whole_tensors(tmp_path: Path) -> None:
    a, b, bias, before = random(3, 2, 4), random(3, 5, 2), random(6), base()
    layer = "model.layers.0.block_sparse_moe.switch_mlp.gate_proj"
    tensors = {f"{layer}.lora_a": a, f"{layer}.lora_b": b, f"{Q}.bias": bias}
    adapter = open_adapter(write(tmp_path / "a", tensors, LORA), before)
    made = rebuilt(adapter, before)
    for expert in range(3):
        name = f"model.layers.0.block_sparse_moe.experts.{expert}.w1.weight"
        wanted = weights(before, name) + 10 * b[expert] @ a[expert]
        np.testing.assert_allclose(widen(made[name][1], "F32"), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(widen(made[f"{Q}.bias"][1], "F32"), bias)


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        ({}, LORA, "contains no tensors"),
        ({f"{Q}.lora_a": (4, 2)}, LORA, "lacks lora_b"),
        ({f"{Q}.lora_a": (4, 2), f"{Q}.lora_b": (2, 5)}, LORA, r"'.*q_proj.lora_a' is \[4, 2\]"),
        ({f"{Q}.lora_a": (4, 2), f"{Q}.lora_b": (2, 6)}, {"lora_parameters": {"rank": 2}}, "lora_parameters.scale"),
        ({f"{Q}.lora_a": (4, 2), f"{Q}.lora_b": (2, 6)}, {**LORA, "fine_tune_type": "ia3"}, "fine_tune_type 'ia3'"),
        ({f"{Q}.lora_a": (4, 2), f"{Q}.lora_b": (2, 6), f"{Q}.m": (6,)}, LORA, "has an m"),
        ({"model.up.lora_a": (4, 2), "model.up.lora_b": (2, 6)}, LORA, "'model.up.weight', which the base does not have"),
        ({"x.switch_mlp.up_proj.lora_a": (3, 2, 4), "x.switch_mlp.up_proj.lora_b": (3, 5, 2)}, LORA, "one by one"),
    ],
)  # fmt: skip
def test_what_does_not_fit(
    tensors: dict[str, tuple[int, ...]], config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "a", {name: random(*shape) for name, shape in tensors.items()}, config)
    with pytest.raises(CheckpointError, match=words):
        open_adapter(folder, base())
