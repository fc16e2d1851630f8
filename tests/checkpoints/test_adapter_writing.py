"""Which module a tensor belongs to, and the config that PEFT reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from persona.checkpoints.adapters.config import read_config
from persona.checkpoints.adapters.places import Places
from persona.checkpoints.adapters.writing import Module, Unsaid, config_json

GPT2: dict[str, Any] = {
    "transformer.h.0.attn.c_attn.weight": (16, 48), "transformer.h.0.attn.c_attn.bias": (48,),
    "transformer.h.0.attn.c_proj.weight": (16, 16), "transformer.h.0.attn.c_proj.bias": (16,),
    "transformer.wte.weight": (40, 16), "transformer.ln_f.weight": (16,),
}  # fmt: skip
MIXTURE: dict[str, Any] = {
    "model.layers.0.mlp.gate.weight": (4, 16), "model.layers.0.mlp.experts.0.up_proj.weight": (24, 16),
    "model.layers.0.mlp.experts.gate_up_proj": (4, 48, 16), "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.0.self_attn.q_proj.bias": (16,), "model.embed_tokens.weight": (40, 16), "lm_head.weight": (40, 16),
}  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "name", "kind"),
    [
        (GPT2, "transformer.h.0.attn.c_attn.weight", "conv1d"),
        (GPT2, "transformer.h.0.attn.c_proj.weight", "conv1d"),  # square: as its neighbour lies
        (GPT2, "transformer.wte.weight", "embedding"),
        (MIXTURE, "model.layers.0.self_attn.q_proj.weight", "linear"),
        (MIXTURE, "model.embed_tokens.weight", "embedding"),
        (MIXTURE, "lm_head.weight", "linear"),
    ],
)
def test_the_kind_of_a_whole_tensors_module(shapes: dict[str, Any], name: str, kind: str) -> None:
    module = Places(shapes, {}, {}).module(name)
    assert isinstance(module, Module)
    assert (module.kind, module.path) == (kind, name.removesuffix(".weight"))


@pytest.mark.parametrize(
    ("shapes", "name", "why"),
    [
        (GPT2, "transformer.ln_f.weight", "not the matrix of a module"),
        (GPT2, "transformer.h.0.attn.c_attn.bias", "not the matrix of a module"),
        (GPT2, "score.weight", "no such tensor"),
        (MIXTURE, "model.layers.0.mlp.gate.weight", "routes among experts"),
        (MIXTURE, "model.layers.0.mlp.experts.0.up_proj.weight", "belongs to an expert"),
        (MIXTURE, "model.layers.0.mlp.experts.gate_up_proj", "not the matrix of a module"),
    ],
)
def test_what_no_module_has(shapes: dict[str, Any], name: str, why: str) -> None:
    found = Places(shapes, {}, {}).module(name)
    assert isinstance(found, Unsaid)
    assert why in found.why


def test_a_shared_head_is_out_of_reach() -> None:
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    assert Places(MIXTURE, tied, {}).module("model.embed_tokens.weight") == Unsaid("embedding and head share it")


def test_patterns_hold_for_paths_that_end_alike(tmp_path: Path) -> None:
    """PEFT takes the first pattern that a path ends with; "head" is the end of "model.head"."""
    ranks = {"head": 2, "model.head": 8, "model.other.head": 4, "model.up": 8, "model.down": 3}
    modules = [(Module(f"{path}.weight", path, "linear", (16, 16)), rank) for path, rank in ranks.items()]
    (tmp_path / "adapter_config.json").write_bytes(config_json(modules, "base", {}))
    config = read_config(tmp_path / "adapter_config.json")
    assert {path: config.rank_of(path) for path in ranks} == ranks
    assert {config.scale_of(path) for path in ranks} == {1.0}
    assert LoraConfig.from_pretrained(tmp_path).rank_pattern == json.loads(
        (tmp_path / "adapter_config.json").read_text()
    )["rank_pattern"]  # fmt: skip
