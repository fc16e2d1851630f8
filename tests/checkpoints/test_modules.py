"""Names in the loaded model, against the state dict that ``from_pretrained`` loads."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from persona.checkpoints.modules import Modules, Part
from persona.errors import Refusal
from tests.models import assert_same, load

TEXT = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
MIXTURE = {**TEXT, "num_experts_per_tok": 2, "head_dim": 8}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8}
MODELS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": TEXT,
    "LlavaForConditionalGeneration": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": {"model_type": "clip_vision_model", **VISION, "patch_size": 4, "projection_dim": 16},
        "image_token_id": 39,
    },
    "Qwen2VLForConditionalGeneration": {
        "text_config": {
            "model_type": "qwen2_vl_text", **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        "vision_config": {
            "depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        },
        "tie_word_embeddings": True,
    },
    "MixtralForCausalLM": {**MIXTURE, "num_local_experts": 3},
    "Qwen3MoeForCausalLM": {**MIXTURE, "num_experts": 3, "moe_intermediate_size": 12},
    "GptOssForCausalLM": {**MIXTURE, "num_local_experts": 3},
    "GPT2LMHeadModel": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 40},
    "BertForMaskedLM": {**TEXT, "num_hidden_layers": 1},
    "WhisperForConditionalGeneration": {
        "vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 8,
        "max_source_positions": 8, "max_target_positions": 8, "pad_token_id": 0, "decoder_start_token_id": 3,
    },
    "T5ForConditionalGeneration": {
        "vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2,
        "decoder_start_token_id": 0,
    },
}  # fmt: skip


def saved(kind: str, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    cls(cls.config_class(**MODELS[kind])).save_pretrained(folder)
    return json.loads((folder / "config.json").read_text()), load(folder)


def state(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(getattr(transformers, kind).from_pretrained(folder, dtype="auto").state_dict())


def check(kind: str, folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Every tensor loads to the parameter that transformers loads it to, and converts back."""
    modules = Modules.of(config)
    assert modules is not None
    wanted = state(kind, folder)
    assert {name: tuple(tensor.shape) for name, tensor in wanted.items()} == modules.parameters
    groups = modules.groups({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    made: dict[str, torch.Tensor] = {}
    back: dict[str, torch.Tensor] = {}
    for group in groups:
        parameters = group.convert(tensors)
        assert set(parameters) == set(group.parameters)
        made |= parameters
        back |= group.revert(parameters)
    assert_same(back, tensors)
    for name in wanted.keys() - made.keys():
        made[name] = made[modules.tied[name]]
    assert_same(made, wanted)


@pytest.mark.parametrize("kind", MODELS)
def test_tensors_load_and_save_as_in_transformers(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, *saved(kind, tmp_path))


@pytest.mark.parametrize(
    ("kind", "pattern", "text"),
    [
        ("LlavaForConditionalGeneration", r"^model\.(vision|multi)", r"\1"),
        ("LlavaForConditionalGeneration", r"^language_model\.model\.", "model.language_model."),
        ("Qwen2VLForConditionalGeneration", r"^model\.language_model\.", "model."),
        ("GPT2LMHeadModel", r"^transformer\.", ""),
        ("BertForMaskedLM", r"LayerNorm\.weight$", "LayerNorm.gamma"),
    ],
)
def test_files_with_other_names_of_the_same_model(kind: str, pattern: str, text: str, tmp_path: Path) -> None:
    config, tensors = saved(kind, tmp_path)
    tensors = {re.sub(pattern, text, name): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    check(kind, tmp_path, config, tensors)


def test_the_part_of_a_parameter_that_an_expert_fills(tmp_path: Path) -> None:
    config, tensors = saved("MixtralForCausalLM", tmp_path)
    modules = Modules.of(config)
    assert modules is not None
    loaded = state("MixtralForCausalLM", tmp_path)
    for group in modules.groups({name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        for file in group.files:
            part = group.part(file)
            assert part is not None
            whole = loaded[part.parameter]
            piece = whole if part.expert is None else whole[part.expert][part.start : part.stop]
            assert torch.equal(piece, tensors[file]), file
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    group = next(g for g in modules.groups({n: tuple(t.shape) for n, t in tensors.items()}) if name in g.files)
    assert group.part(name) == Part("model.layers.1.mlp.experts.gate_up_proj", 2, 24, 48)


@pytest.mark.parametrize(
    "config",
    [{}, {"architectures": None}, {"architectures": ["NoSuchModel"]}, {"architectures": ["LlamaConfig"]},
     {"architectures": ["LlamaForCausalLM"], "hidden_size": "wide"}],
)  # fmt: skip
def test_a_model_that_transformers_does_not_have_has_no_modules(config: dict[str, Any]) -> None:
    assert Modules.of(config) is None


def test_a_model_that_cannot_be_created_is_named() -> None:
    with pytest.raises(Refusal, match=r"cannot create the model .*: LlamaForCausalLM, \w+"):
        Modules.required({"architectures": ["LlamaForCausalLM"], "hidden_size": "wide"})
    assert Modules.required({"architectures": ["NoSuchModel"]}) is None
