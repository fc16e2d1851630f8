"""A tiny model of each family of transformers, for tests and for ``docs/compatibility.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
import transformers
from transformers import PreTrainedModel

TEXT: Final = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS: Final = {**TEXT, "head_dim": 8}
ENCODER: Final = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
SMALL_GPT: Final = {
    "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2
}  # fmt: skip
SEQ: Final = {
    "vocab_size": 96, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
T5: Final = {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
SSM: Final = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2}
VISION: Final = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
MROPE: Final = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}

FAMILIES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    # causal language models
    "Llama": ("LlamaForCausalLM", TEXT),
    "Llama, tied": ("LlamaForCausalLM", {**TEXT, "tie_word_embeddings": True}),
    "Mistral": ("MistralForCausalLM", TEXT),
    "Qwen2": ("Qwen2ForCausalLM", {**TEXT, "tie_word_embeddings": True}),
    "Qwen3": ("Qwen3ForCausalLM", {**HEADS, "tie_word_embeddings": True}),
    "Gemma": ("GemmaForCausalLM", HEADS),
    "Gemma 2": ("Gemma2ForCausalLM", {**HEADS, "sliding_window": 16}),
    "Gemma 3": ("Gemma3ForCausalLM", {**HEADS, "sliding_window": 16}),
    "Phi": ("PhiForCausalLM", TEXT),
    "Phi 3": ("Phi3ForCausalLM", TEXT),
    "GPT-2": ("GPT2LMHeadModel", SMALL_GPT),
    "GPT-J": ("GPTJForCausalLM", {**SMALL_GPT, "rotary_dim": 4}),
    "GPT-Neo": (
        "GPTNeoForCausalLM",
        {
            "vocab_size": 96, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64,
            "attention_types": [[["global"], 2]],
        },
    ),
    "GPT-NeoX": ("GPTNeoXForCausalLM", ENCODER),
    "BLOOM": ("BloomForCausalLM", {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "OPT": (
        "OPTForCausalLM",
        {
            "vocab_size": 96, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 64, "word_embed_proj_dim": 32,
        },
    ),
    "Falcon": ("FalconForCausalLM", {**SSM, "num_attention_heads": 4}),
    "MPT": ("MptForCausalLM", {"vocab_size": 96, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    "OLMo 2": ("Olmo2ForCausalLM", TEXT),
    "StableLM": ("StableLmForCausalLM", TEXT),
    "StarCoder 2": ("Starcoder2ForCausalLM", TEXT),
    "Cohere": ("CohereForCausalLM", TEXT),
    "Granite": ("GraniteForCausalLM", TEXT),
    "Nemotron": ("NemotronForCausalLM", TEXT),
    "SmolLM 3": ("SmolLM3ForCausalLM", TEXT),
    "GLM 4": ("Glm4ForCausalLM", HEADS),
    # mixtures of experts
    "Mixtral": ("MixtralForCausalLM", {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen2-MoE": (
        "Qwen2MoeForCausalLM",
        {
            **TEXT, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
        },
    ),
    "Qwen3-MoE": (
        "Qwen3MoeForCausalLM",
        {**HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "decoder_sparse_step": 1},
    ),
    "OLMoE": ("OlmoeForCausalLM", {**TEXT, "num_experts": 4, "num_experts_per_tok": 2}),
    "GPT-OSS": ("GptOssForCausalLM", {**HEADS, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "DeepSeek-V3": (
        "DeepseekV3ForCausalLM",
        {
            **TEXT, "num_key_value_heads": 4, "moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 1,
            "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16,
            "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
        },
    ),
    "GLM 4 MoE": (
        "Glm4MoeForCausalLM",
        {
            **HEADS, "moe_intermediate_size": 24, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
            "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
        },
    ),
    "Granite MoE": ("GraniteMoeForCausalLM", {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "Qwen3-Next": (
        "Qwen3NextForCausalLM",
        {
            **HEADS, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 8, "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    # state space models and hybrids
    "Mamba": ("MambaForCausalLM", {**SSM, "state_size": 4}),
    "Mamba 2": (
        "Mamba2ForCausalLM",
        {**SSM, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "tie_word_embeddings": True},
    ),
    "Falcon Mamba": ("FalconMambaForCausalLM", {**SSM, "state_size": 4}),
    "Jamba": (
        "JambaForCausalLM",
        {
            **TEXT, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
            "expert_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    # encoders
    "BERT": ("BertForMaskedLM", ENCODER),
    "RoBERTa": ("RobertaForMaskedLM", ENCODER),
    "DistilBERT": (
        "DistilBertForMaskedLM",
        {"vocab_size": 96, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64},
    ),
    "ELECTRA": ("ElectraForMaskedLM", {**ENCODER, "embedding_size": 32}),
    "ALBERT": ("AlbertForMaskedLM", {**ENCODER, "embedding_size": 16}),
    "DeBERTa-v2": ("DebertaV2ForMaskedLM", ENCODER),
    "ModernBERT": ("ModernBertForMaskedLM", {**ENCODER, "local_attention": 16, "cls_token_id": 1, "sep_token_id": 2}),
    # encoder and decoder
    "T5": ("T5ForConditionalGeneration", {**T5, "decoder_start_token_id": 0}),
    "T5 1.1": ("T5ForConditionalGeneration", {**T5, "decoder_start_token_id": 0, "tie_word_embeddings": False}),
    "BART": ("BartForConditionalGeneration", SEQ),
    "mBART": ("MBartForConditionalGeneration", SEQ),
    "Pegasus": ("PegasusForConditionalGeneration", SEQ),
    "M2M-100": ("M2M100ForConditionalGeneration", SEQ),
    "Whisper": (
        "WhisperForConditionalGeneration",
        {
            **{key: value for key, value in SEQ.items() if key != "max_position_embeddings"}, "num_mel_bins": 8,
            "max_source_positions": 32, "max_target_positions": 32, "suppress_tokens": None,
            "begin_suppress_tokens": None,
        },
    ),
    # vision and language
    "LLaVA": (
        "LlavaForConditionalGeneration",
        {
            "vision_config": {**VISION, "model_type": "clip_vision_model", "projection_dim": 32},
            "text_config": {**TEXT, "model_type": "llama"}, "image_token_id": 95,
        },
    ),
    "Qwen2-VL": (
        "Qwen2VLForConditionalGeneration",
        {
            "text_config": {**TEXT, "tie_word_embeddings": True, "rope_parameters": MROPE},
            "vision_config": {
                "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 4,
                "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
            },
            "tie_word_embeddings": True,
        },
    ),
    "Qwen2.5-VL": (
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**TEXT, "rope_parameters": MROPE},
            "vision_config": {
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
                "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
                "fullatt_block_indexes": [1],
            },
        },
    ),
    "Gemma 3, vision": (
        "Gemma3ForConditionalGeneration",
        {
            "text_config": {**HEADS, "sliding_window": 16}, "vision_config": VISION, "mm_tokens_per_image": 4,
            "image_token_index": 95, "boi_token_index": 94, "eoi_token_index": 93,
        },
    ),
    "PaliGemma": (
        "PaliGemmaForConditionalGeneration",
        {
            "text_config": {**HEADS, "model_type": "gemma"}, "vision_config": {**VISION, "model_type": "siglip_vision_model"},
            "projection_dim": 32, "image_token_index": 95,
        },
    ),
    # vision and sound
    "ViT": ("ViTForImageClassification", VISION),
    "wav2vec 2": (
        "Wav2Vec2ForCTC",
        {
            **{key: value for key, value in ENCODER.items() if key != "max_position_embeddings"}, "conv_dim": [8, 8],
            "conv_stride": [2, 2], "conv_kernel": [3, 3], "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        },
    ),
}  # fmt: skip
"""Class in transformers and settings of its config, by the family's name."""


def tiny(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of a family, the same but for a little noise for each seed; no weight is zero, which would hide mistakes."""
    name, settings = FAMILIES[family]
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    model: PreTrainedModel = kind(kind.config_class(**settings))
    for noise, std in ((0, 0.02), (seed, 0.002)):
        generator = torch.Generator().manual_seed(noise)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * std)
    return model.to(dtype).eval()
