"""Adapters as peft writes them, and what peft makes of them: the oracle for the adapter reader."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import save_file

from persona.checkpoints.adapter import CONFIG, WEIGHTS, Adapter, matrix, open_adapter
from persona.checkpoints.dtypes import as_bits, narrow, widen
from persona.checkpoints.tensorfile import TensorFile
from persona.methods.parts.lowrank import delta_rows

TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
UNIT = {"BF16": 2.0**-8, "F16": 2.0**-11, "F32": 2.0**-24}
"""Half a unit in the last place of 1."""

Tensors = dict[str, tuple[str, np.ndarray]]
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32, "vocab_size": 40}
LLAMA = {**SMALL, "hidden_size": 16, "intermediate_size": 24, "num_key_value_heads": 1}
MIXTURE = {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2}
FAMILIES = {
    "Llama": LLAMA,
    "Mixtral": MIXTURE,
    "Bert": {**SMALL, "hidden_size": 16, "intermediate_size": 24},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 40},
    "Qwen2Moe": {
        **LLAMA, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 12,
    },
    "GptOss": {
        **MIXTURE, "head_dim": 8, "intermediate_size": 16, "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip


@dataclass(frozen=True)
class FakeBase:
    """A base checkpoint in memory; ``read`` lists what was asked for."""

    tensors: Tensors
    tied: Mapping[str, str] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    modules: Any = None

    @property
    def names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: (dtype, bits.shape) for name, (dtype, bits) in self.tensors.items()}

    def bits(self, name: str) -> np.ndarray:
        self.read.append(name)
        return self.tensors[name][1]


def build(kind: str, **settings: Any) -> Any:
    """A tiny transformers model, always the same, with norms and biases that are not ones and zeros."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(_config(kind, settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def _config(kind: str, settings: dict[str, Any]) -> Any:
    family = next(name for name in FAMILIES if kind.startswith(name))
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return getattr(transformers, f"{family}Config")(**{**FAMILIES[family], **special, **settings})


def at_dtype(model: Any, dtype: str) -> Any:
    """The model with values that ``dtype`` can hold, in fp32."""
    return copy.deepcopy(model).to(TORCH[dtype]).to(torch.float32)


def base_of(model: Any, dtype: str, folder: Path) -> FakeBase:
    """What transformers writes of the model in ``dtype``."""
    copy.deepcopy(model).to(TORCH[dtype]).save_pretrained(folder)
    tied = {"lm_head.weight": embedding_name(model)} if model.config.tie_word_embeddings else {}
    tensors = on_disk(folder)
    return FakeBase(tensors, {a: n for a, n in tied.items() if n in tensors and a not in tensors and has_head(model)})


def has_head(model: Any) -> bool:
    return model.get_output_embeddings() is not None


def embedding_name(model: Any) -> str:
    embedding = model.get_input_embeddings()
    return next(f"{name}.weight" for name, module in model.named_modules() if module is embedding)


def on_disk(folder: Path) -> Tensors:
    file = TensorFile(folder / "model.safetensors")
    return {n: (i.dtype, as_bits(file.data(i), i.dtype).reshape(i.shape)) for n, i in file.tensors.items()}


def randomise(model: torch.nn.Module, seed: int = 7) -> None:
    """Move everything that is trained, so that no half of an adapter is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@dataclass(frozen=True)
class Trained:
    """An adapter folder, the model with the adapter loaded, and peft's merge of it in fp32."""

    folder: Path
    model: Any
    merged: Any


def train(model: Any, config: LoraConfig, folder: Path, change: Callable[[Any], None] = randomise) -> Trained:
    """Give the model an adapter, move its weights, save it, load what was saved, and merge it: all by peft."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(copy.deepcopy(model), config).eval()
        change(adapted)
        adapted.save_pretrained(folder)
        merged = PeftModel.from_pretrained(copy.deepcopy(model), folder).merge_and_unload()
    return Trained(folder, adapted, merged)


def rebuilt(adapter: Adapter, base: FakeBase) -> Tensors:
    """The checkpoint that base and adapter make: everything fp32, rounded once to the base's dtype."""
    tensors = dict(base.tensors)
    for name, info in adapter.full.items():
        tensors[name] = (info.dtype, as_bits(adapter.file.data(info), info.dtype).reshape(info.shape))
    for name, made in adapter.made.items():
        tensors[name] = (made.dtype, made.compute())
        assert tensors[name][1].shape == made.shape
    for name, delta in adapter.low_rank.items():
        dtype, bits = base.tensors[base.tied.get(name, name)]
        left, right = matrix(adapter.file, delta.left), matrix(adapter.file, delta.right)
        change = delta_rows(left, right, delta.scale, 0, len(left)).reshape(bits.shape)
        tensors[name] = (dtype, narrow(widen(bits, dtype) + change, dtype))
    return tensors


def check(adapter: Adapter, base: FakeBase, merged: Tensors) -> None:
    """Every tensor as peft merged it: the same bits where nothing was trained, one unit in the last place elsewhere.

    Both sides compute W + s·B·A in fp32, and only the order of r sums differs. So before they are rounded they lie
    at most 2·(r + 2) roundings of fp32 apart, relative to |W| + s·|B|·|A|. That is far below a unit in the last
    place of bf16 and fp16, except where W and ΔW cancel, and it is what fp32 can be held to.
    """
    ours = rebuilt(adapter, base)
    assert set(ours) == set(merged)
    for name, (dtype, bits) in ours.items():
        theirs = widen(merged[name][1], merged[name][0])
        mine, rounded = widen(bits, dtype), widen(narrow(theirs, dtype), dtype)
        assert mine.shape == rounded.shape, name
        if name in adapter.low_rank or name in adapter.made:
            allowed = 2 * UNIT[dtype] * np.abs(rounded) + fp32_error(adapter, base, name, mine)
            assert (np.abs(mine - rounded) <= allowed).all(), name
        else:
            assert (mine == rounded).all(), name


def fp32_error(adapter: Adapter, base: FakeBase, name: str, result: np.ndarray) -> np.ndarray:
    """How far two orders of the same fp32 sums can lie apart.

    For what is made dense (norms over an axis, a factor on top) the parts of an entry are taken to be no larger
    than twice the tensor's largest entry.
    """
    delta = adapter.low_rank.get(name)
    if delta is None:
        roundings = 2 * (adapter.config["r"] + 4) + max(result.shape)
        return roundings * UNIT["F32"] * 2 * np.abs(result).max()
    left, right = (np.abs(matrix(adapter.file, factor)) for factor in (delta.left, delta.right))
    change = abs(delta.scale) * (left @ right).reshape(result.shape)
    dtype, bits = base.tensors[name]
    return 2 * (left.shape[1] + 2) * UNIT["F32"] * (np.abs(widen(bits, dtype)) + change)


def merged_tensors(trained: Trained, folder: Path) -> Tensors:
    """peft's merge as transformers writes it, in fp32."""
    trained.merged.save_pretrained(folder)
    return on_disk(folder)


def check_logits(adapter: Adapter, base: FakeBase, trained: Trained) -> None:
    """A model with the rebuilt tensors answers as the model with the adapter loaded."""
    ours = {name: torch.tensor(widen(bits, dtype)) for name, (dtype, bits) in rebuilt(adapter, base).items()}
    config = copy.deepcopy(trained.merged.config)
    config.tie_word_embeddings = config.tie_word_embeddings and not adapter.untied
    model = type(trained.merged).from_pretrained(None, config=config, state_dict=ours)
    ids = torch.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids)[0], trained.model(ids)[0])


def opened(trained: Trained, base: FakeBase, tied: str | None = None) -> Adapter:
    return open_adapter(trained.folder, base, tied)


def handmade(folder: Path, tensors: Mapping[str, np.ndarray], **config: Any) -> Path:
    """An adapter folder written by hand; ``config`` is added to a plain LoRA of rank 2."""
    folder.mkdir(parents=True)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}))
    return folder


def pair(
    module: str, rows: int, columns: int, rank: int = 2, prefix: str = "base_model.model."
) -> dict[str, np.ndarray]:
    """Two factors for a Linear of ``rows`` outputs."""
    entries = np.random.default_rng(len(module))
    return {
        f"{prefix}{module}.lora_A.weight": entries.standard_normal((rank, columns), np.float32),
        f"{prefix}{module}.lora_B.weight": entries.standard_normal((rows, rank), np.float32),
    }


def base_with(**shapes: tuple[int, ...]) -> FakeBase:
    """A base of fp32 zeros; ``__`` in a name is a dot."""
    return FakeBase({name.replace("__", "."): ("F32", np.zeros(shape, np.uint32)) for name, shape in shapes.items()})
