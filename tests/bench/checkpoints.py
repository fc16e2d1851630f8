"""A synthetic Llama checkpoint and three fine-tunes of it, as sharded bf16 safetensors. For size, not for behaviour.

base   random weights, std 0.02
ft0    every weight moved by N(0, 5e-5): a light full fine-tune, about half of the bf16 entries change
ft1    every weight moved by N(0, 2e-4): a heavy one, about 83 % change
ft2    block matrices moved by a rank-16 product: a merged LoRA, about 52 % change
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SIZES = {
    "5M": (256, 704, 3, 4000),
    "90M": (640, 1760, 12, 16000),
    "374M": (1024, 2816, 24, 32000),
    "748M": (1024, 2816, 48, 64000),
    "1.5G": (2048, 5632, 26, 32000),
}
"""Hidden and intermediate size, layers, vocabulary. 5M is for trying whether a benchmark runs; 748M is twice 374M."""

SHARD = 200_000_000


def more(folder: Path, size: str, count: int) -> None:
    """Write ft3, ft4, … below ``folder`` until there are ``count`` fine-tunes: light and heavy full ones in turn."""
    dims = SIZES[size]
    for number in range(3, count):
        if (folder / f"ft{number}" / "config.json").exists():
            continue
        rng = torch.Generator().manual_seed(number)
        base = {}
        for path in sorted((folder / "base").glob("*.safetensors")):
            base.update(load_file(path))
        std = (5e-5, 2e-4)[number % 2]
        tuned = {name: _moved(name, base[name], std, 0, rng) for name, _ in _shapes(*dims)}
        _write(folder / f"ft{number}", tuned, dims)


def make(folder: Path, size: str) -> None:
    """Write base, ft0, ft1 and ft2 below ``folder``, unless they are there."""
    if (folder / "ft2" / "config.json").exists():
        return
    dims = SIZES[size]
    rng = torch.Generator().manual_seed(0)
    base = {name: _begin(shape, rng) for name, shape in _shapes(*dims)}
    _write(folder / "base", base, dims)
    for number, (std, rank) in enumerate([(5e-5, 0), (2e-4, 0), (2e-4, 16)]):
        tuned = {name: _moved(name, weight, std, rank, rng) for name, weight in base.items()}
        _write(folder / f"ft{number}", tuned, dims)


def _shapes(hidden: int, inter: int, layers: int, vocab: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        for name in "qkvo":
            yield f"model.layers.{i}.self_attn.{name}_proj.weight", (hidden, hidden)
        yield f"model.layers.{i}.mlp.gate_proj.weight", (inter, hidden)
        yield f"model.layers.{i}.mlp.up_proj.weight", (inter, hidden)
        yield f"model.layers.{i}.mlp.down_proj.weight", (hidden, inter)
        yield f"model.layers.{i}.input_layernorm.weight", (hidden,)
        yield f"model.layers.{i}.post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def _begin(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    return (torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=rng) * 0.02).bfloat16()


def _moved(name: str, weight: torch.Tensor, std: float, rank: int, rng: torch.Generator) -> torch.Tensor:
    if not rank:
        return (weight.float() + torch.randn(weight.shape, generator=rng) * std).bfloat16()
    if weight.ndim == 1 or ".layers." not in name:
        return weight
    rows, columns = weight.shape
    product = torch.randn(rows, rank, generator=rng) @ torch.randn(rank, columns, generator=rng)
    return (weight.float() + product / rank**0.5 * std).bfloat16()


def _write(folder: Path, tensors: dict[str, torch.Tensor], dims: tuple[int, int, int, int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, tensor in tensors.items():
        if sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > SHARD and shards[-1]:
            shards.append({})
        shards[-1][name] = tensor
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hidden, inter, layers, vocab = dims
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inter,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64,
        "vocab_size": vocab, "rms_norm_eps": 1e-5, "hidden_act": "silu", "max_position_embeddings": 2048,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
