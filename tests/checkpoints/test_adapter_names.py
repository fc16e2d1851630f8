"""Which base tensor a key means, and what becomes of tied ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig

from persona.checkpoints.adapter import open_adapter
from persona.checkpoints.dtypes import widen
from persona.checkpoints.modules import Modules
from persona.errors import CheckpointError
from tests.checkpoints.peft_folders import (
    FakeBase,
    base_of,
    base_with,
    build,
    check,
    check_logits,
    handmade,
    merged_tensors,
    on_disk,
    opened,
    pair,
    rebuilt,
    train,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own, of which the oracle has many

LLAMA = "LlamaForCausalLM"
Q = "layers.0.self_attn.q_proj"


def test_trained_on_the_bare_model(tmp_path: Path) -> None:
    base = base_of(build(LLAMA), "F32", tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    adapter = opened(train(build("LlamaModel"), config, tmp_path / "adapter"), base)
    assert list(adapter.low_rank) == [f"model.layers.{n}.self_attn.q_proj.weight" for n in (0, 1)]
    assert list(adapter.full) == ["model.embed_tokens.weight"]


def test_trained_on_a_task_model_of_a_bare_base(tmp_path: Path) -> None:
    base = base_of(build(LLAMA).model, "F32", tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    adapter = opened(train(build(LLAMA), config, tmp_path / "adapter"), base)
    assert list(adapter.low_rank) == ["embed_tokens.weight", *(f"layers.{n}.self_attn.q_proj.weight" for n in (0, 1))]
    assert list(adapter.full) == ["lm_head.weight"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (f"model.language_model.{Q}", f"language_model.model.{Q}"),
        (f"model.language_model.{Q}", f"model.{Q}"),
        (f"model.{Q}", f"model.language_model.{Q}"),
        (f"model.visual.{Q}", f"visual.{Q}"),
        (f"transformer.{Q}", Q),
        ("model.layers.0.mlp.gate", "model.layers.0.block_sparse_moe.gate"),
        ("lm_head", "language_model.lm_head"),
    ],
)
def test_names_that_transformers_changed(ours: str, theirs: str, tmp_path: Path) -> None:
    other = {f"vision_tower.{Q}.weight": (6, 4)}
    base = base_with(**{f"{theirs}.weight": (6, 4), **other})
    adapter = open_adapter(handmade(tmp_path / "adapter", pair(ours, 6, 4)), base)
    assert list(adapter.low_rank) == [f"{theirs}.weight"]


@pytest.mark.parametrize("prefix", ["base_model.model.", "", "module.base_model.model._orig_mod._fsdp_wrapped_module."])
@pytest.mark.parametrize("name", [".default", ".mine", ""])
def test_keys_with_and_without_prefix_and_adapter_name(prefix: str, name: str, tmp_path: Path) -> None:
    tensors = {
        f"{prefix}up.lora_A{name}.weight": np.ones((2, 4), np.float32),
        f"{prefix}up.lora_B{name}.weight": np.ones((6, 2), np.float32),
        f"{prefix}up.lora_magnitude_vector{name}": np.ones(6, np.float32),
        f"{prefix}wte.lora_embedding_A{name}": np.ones((2, 9), np.float32),
        f"{prefix}wte.lora_embedding_B{name}": np.ones((4, 2), np.float32),
        f"{prefix}wte.lora_magnitude_vector{name}.weight": np.ones(4, np.float32),
        f"{prefix}head.modules_to_save{name.replace('mine', 'default')}.weight": np.ones((3, 4), np.float32),
    }
    folder = handmade(tmp_path / "adapter", tensors, use_dora=True, modules_to_save=["head"])
    adapter = open_adapter(folder, base_with(up__weight=(6, 4), wte__weight=(9, 4), head__weight=(3, 4)))
    assert (list(adapter.made), list(adapter.full)) == (["up.weight", "wte.weight"], ["head.weight"])


def test_a_name_that_could_be_two(tmp_path: Path) -> None:
    base = base_with(**{f"text.{Q}.weight": (6, 4), f"vision.{Q}.weight": (6, 4)})
    with pytest.raises(CheckpointError) as error:
        open_adapter(handmade(tmp_path / "adapter", pair(Q, 6, 4)), base)
    assert f"'text.{Q}.weight' or 'vision.{Q}.weight'" in error.value.message
    assert f"'base_model.model.{Q}.lora_A.weight'" in error.value.message


def test_a_name_that_the_base_does_not_have(tmp_path: Path) -> None:
    base = base_with(**{f"model.{Q}.weight": (6, 4), "model.norm.weight": (4,)})
    with pytest.raises(CheckpointError) as error:
        open_adapter(handmade(tmp_path / "adapter", pair("model.layers.7.self_attn.q_proj", 6, 4)), base)
    assert "'base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight'" in error.value.message
    assert f"model.{Q}.weight" in error.value.hint


TIED = {"tie_word_embeddings": True}


def test_both_of_a_tie_alike_is_one_change_made_once(tmp_path: Path) -> None:
    """A loaded adapter adds ΔW to each; merge_and_unload (0.21) adds both to the tensor that they share."""
    model = build(LLAMA, **TIED)
    base = base_of(model, "F32", tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True)

    def move(adapted: Any) -> None:
        adapted = adapted.base_model.model
        embedding, head = adapted.model.embed_tokens, adapted.lm_head
        with torch.no_grad():
            embedding.lora_embedding_A["default"].normal_(std=0.1)
            head.lora_B["default"].weight.copy_(embedding.lora_embedding_A["default"].T)
            head.lora_A["default"].weight.copy_(embedding.lora_embedding_B["default"].T)

    trained = train(model, config, tmp_path / "adapter", move)
    adapter = opened(trained, base)
    assert "model.embed_tokens.weight" in adapter.low_rank
    assert "lm_head.weight" not in adapter.low_rank
    assert not adapter.untied
    check_logits(adapter, base, trained)
    merged = merged_tensors(trained, tmp_path / "merged")["model.embed_tokens.weight"]
    ours = rebuilt(adapter, base)["model.embed_tokens.weight"]
    before = widen(base.bits("model.embed_tokens.weight"), "F32")
    np.testing.assert_allclose(widen(merged[1], "F32") - before, 2 * (widen(ours[1], "F32") - before), atol=1e-6)


ONE_OF_A_TIE: list[dict[str, Any]] = [
    {"target_modules": ["embed_tokens"]},
    {"target_modules": ["lm_head"]},
    {"target_modules": ["embed_tokens", "lm_head"]},
    {"target_modules": ["embed_tokens"], "use_dora": True},
    {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [1]}},
    {"target_modules": ["lm_head"], "modules_to_save": ["embed_tokens"]},
]


@pytest.mark.parametrize("config", ONE_OF_A_TIE)
def test_one_of_a_tie_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    model = build(LLAMA, **TIED)
    base = base_of(model, "F32", tmp_path / "base")
    trained = train(model, LoraConfig(r=4, **config), tmp_path / "adapter")
    with pytest.raises(CheckpointError) as error:
        opened(trained, base)
    assert "ties 'lm_head.weight' to 'model.embed_tokens.weight'" in error.value.message
    assert "--tied untie" in error.value.hint
    assert "--tied merge" in error.value.hint


@pytest.mark.parametrize("config", ONE_OF_A_TIE)
def test_untied_it_answers_as_the_loaded_adapter(config: dict[str, Any], tmp_path: Path) -> None:
    model = build(LLAMA, **TIED)
    base = base_of(model, "F32", tmp_path / "base")
    trained = train(model, LoraConfig(r=4, **config), tmp_path / "adapter")
    adapter = opened(trained, base, "untie")
    assert adapter.untied == {"lm_head.weight"}
    check_logits(adapter, base, trained)


@pytest.mark.parametrize("config", ONE_OF_A_TIE)
def test_merged_it_is_what_merge_and_unload_makes(config: dict[str, Any], tmp_path: Path) -> None:
    model = build(LLAMA, **TIED)
    base = base_of(model, "F32", tmp_path / "base")
    trained = train(model, LoraConfig(r=4, **config), tmp_path / "adapter")
    adapter = opened(trained, base, "merge")
    wanted, ours = trained.merged.state_dict(), rebuilt(adapter, base)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        made = ours[name if name in ours else "model.embed_tokens.weight"]
        np.testing.assert_allclose(widen(made[1], made[0]), wanted[name].numpy(), atol=1e-6)


def test_on_an_untied_base_the_same_adapter_is_what_it_was(tmp_path: Path) -> None:
    model = build(LLAMA, **TIED)
    trained = train(model, LoraConfig(r=4, target_modules=["lm_head"]), tmp_path / "adapter")
    base = base_of(model, "F32", tmp_path / "base")
    base.tensors["lm_head.weight"] = base.tensors["model.embed_tokens.weight"]
    base = type(base)(base.tensors)
    adapter = opened(trained, base)
    assert list(adapter.low_rank) == ["lm_head.weight"]
    trained.merged.config.tie_word_embeddings = False
    check_logits(adapter, base, trained)


def test_a_copy_of_the_base_in_another_dtype_is_still_a_copy(tmp_path: Path) -> None:
    """peft writes the embedding along when it is a target; trained in fp32 on a bf16 base, it comes as fp32."""
    model = build(LLAMA).to(torch.bfloat16)
    base = base_of(model, "BF16", tmp_path / "base")
    trained = train(model.float(), LoraConfig(r=4, target_modules=["embed_tokens"]), tmp_path / "adapter")
    adapter = opened(trained, base)
    assert list(adapter.low_rank) == ["model.embed_tokens.weight"]
    check(adapter, base, merged_tensors(trained, tmp_path / "merged"))


TINY = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
RENAMED_BY_TRANSFORMERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GPTNeoXForCausalLM": ({}, {"target_modules": ["query_key_value", "lm_head"]}),
    "GraniteMoeForCausalLM": (
        {"num_local_experts": 2, "num_experts_per_tok": 1, "num_key_value_heads": 1},
        {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    ),
    "PhimoeForCausalLM": (
        {"num_local_experts": 2, "num_experts_per_tok": 2, "num_key_value_heads": 1},
        {"target_modules": ["q_proj"], "target_parameters": ["router.weight"], "modules_to_save": ["lm_head"]},
    ),
}


@pytest.mark.parametrize("kind", RENAMED_BY_TRANSFORMERS)
def test_names_that_only_transformers_knows(kind: str, tmp_path: Path) -> None:
    settings, config = RENAMED_BY_TRANSFORMERS[kind]
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**TINY, **settings)).eval()
    model.save_pretrained(tmp_path / "base")
    modules = Modules.of(json.loads((tmp_path / "base" / "config.json").read_text()))
    base = FakeBase(on_disk(tmp_path / "base"), modules=modules)
    trained = train(model, LoraConfig(r=2, **config), tmp_path / "adapter")
    check(opened(trained, base), base, merged_tensors(trained, tmp_path / "merged"))
