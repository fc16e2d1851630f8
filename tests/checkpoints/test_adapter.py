"""Base and adapter, put together by us and by peft: the same weights and the same answers, for every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import VeloraConfig
from safetensors.torch import load_file, save_file

from persona.checkpoints.adapter import WEIGHTS, open_adapter
from persona.checkpoints.dtypes import as_bits, widen
from tests.checkpoints.peft_folders import (
    TORCH,
    FakeBase,
    at_dtype,
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

LLAMA, GPT2 = "LlamaForCausalLM", "GPT2LMHeadModel"
TIED = {"tie_word_embeddings": True}
CONV1D = ["c_attn", "c_proj", "c_fc"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "linear": (LLAMA, {}, {"target_modules": "all-linear", "lora_alpha": 6}),
    "rslora": (LLAMA, {}, {"target_modules": "all-linear", "use_rslora": True}),
    "patterns": (
        LLAMA, {},
        {
            "target_modules": ["q_proj", "down_proj", "o_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 2, r".*\d+\.mlp\..*": 3},
            "alpha_pattern": {"down_proj": 9, r"^model\.layers\.0\.self_attn\.(q|o)_proj": 5.5},
        },
    ),
    "linear and head": (LLAMA, {}, {"target_modules": ["q_proj", "lm_head"]}),
    "embedding": (LLAMA, {}, {"target_modules": ["q_proj", "embed_tokens"]}),
    "conv1d": (GPT2, {}, {"target_modules": CONV1D}),
    "conv1d and a linear last": (GPT2, {"tie_word_embeddings": False}, {"target_modules": [*CONV1D, "lm_head"]}),
    "square conv1d and a linear last": (
        GPT2, {"tie_word_embeddings": False}, {"target_modules": ["attn.c_proj", "lm_head"]},
    ),
    "bias all": (GPT2, {}, {"target_modules": CONV1D, "bias": "all"}),
    "bias lora_only": (GPT2, {}, {"target_modules": CONV1D, "bias": "lora_only"}),
    "lora_bias": (GPT2, {}, {"target_modules": CONV1D, "lora_bias": True}),
    "dora": (LLAMA, {}, {"target_modules": "all-linear", "use_dora": True}),
    "dora conv1d": (GPT2, {}, {"target_modules": CONV1D, "use_dora": True}),
    "dora embedding": (LLAMA, {}, {"target_modules": ["embed_tokens"], "use_dora": True}),
    "saved modules": (LLAMA, {}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "saved embedding, tied": (LLAMA, TIED, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "saved head, tied": (LLAMA, TIED, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "saved both, tied": (LLAMA, TIED, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "saved both alike, tied": (
        LLAMA, TIED,
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "lora of the embedding, head saved, tied": (
        LLAMA, TIED, {"target_modules": ["embed_tokens"], "modules_to_save": ["lm_head"]},
    ),
    "tokens": (
        LLAMA, {}, {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 7], "lm_head": [0]}},
    ),
    "tokens, tied": (LLAMA, TIED, {"target_modules": ["q_proj"], "trainable_token_indices": [7, 3]}),
    "classifier": (
        "BertForSequenceClassification", {}, {"target_modules": ["query"], "task_type": "SEQ_CLS", "bias": "all"},
    ),
    "experts, stored one by one": ("MixtralForCausalLM", {}, {"target_modules": [], "target_parameters": EXPERTS}),
    "experts and the router": (
        "Qwen2MoeForCausalLM", {},
        {"target_modules": ["q_proj"], "target_parameters": ["experts.down_proj", "gate.weight"]},
    ),
    "experts, stored stacked and turned": (
        "GptOssForCausalLM", {}, {"target_modules": ["q_proj"], "target_parameters": EXPERTS},
    ),
    "orthogonal": (LLAMA, {}, {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"}),
    "velora": (LLAMA, {}, {"target_modules": ["q_proj"], "velora_config": VeloraConfig(num_groups=4)}),
    "mica": (LLAMA, {}, {"target_modules": ["q_proj"], "init_lora_weights": "mica"}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_answers_are_pefts(kind: str, dtype: str, tmp_path: Path) -> None:
    name, settings, config = KINDS[kind]
    model = at_dtype(build(name, **settings), dtype)
    base = base_of(model, dtype, tmp_path / "base")
    trained = train(model, LoraConfig(**{"r": 4, **config}), tmp_path / "adapter")
    adapter = opened(trained, base)
    merged = merged_tensors(trained, tmp_path / "merged")
    check(adapter, base, merged)
    assert adapter.untied == {a for a in base.tied if a in merged}
    if dtype == "F32":
        check_logits(adapter, base, trained)


def test_what_is_low_rank_stays_low_rank(tmp_path: Path) -> None:
    model = build(LLAMA)
    base = base_of(model, "BF16", tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    adapter = opened(train(at_dtype(model, "BF16"), config, tmp_path / "adapter"), base)
    attention = [f"model.layers.{n}.self_attn.q_proj.weight" for n in (0, 1)]
    assert list(adapter.low_rank) == ["model.embed_tokens.weight", *attention]
    assert list(adapter.full) == ["lm_head.weight"]
    assert not adapter.made
    q = adapter.low_rank[attention[0]]
    assert (q.left.info.shape, q.left.transposed, q.right.info.shape, q.scale) == ((16, 4), False, (4, 16), 2.0)
    assert adapter.low_rank["model.embed_tokens.weight"].left.transposed


def test_the_base_is_read_only_for_what_is_made(tmp_path: Path) -> None:
    model = build(GPT2)
    base = base_of(model, "F32", tmp_path / "base")
    adapter = opened(train(model, LoraConfig(r=4, target_modules=CONV1D, use_dora=True), tmp_path / "adapter"), base)
    assert not base.read
    name, made = next(iter(adapter.made.items()))
    made.compute()
    assert base.read == [name]


def test_adapters_stored_in_bf16(tmp_path: Path) -> None:
    model = build(LLAMA)
    base = base_of(model, "F32", tmp_path / "base")
    folder = train(model, LoraConfig(r=4, target_modules="all-linear"), tmp_path / "adapter").folder
    halves = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(halves, folder / WEIGHTS)
    PeftModel.from_pretrained(model, folder).merge_and_unload().save_pretrained(tmp_path / "merged")
    check(open_adapter(folder, base), base, on_disk(tmp_path / "merged"))


@pytest.mark.parametrize("lora", [True, False])
def test_a_copy_of_the_base_that_is_no_copy_counts(lora: bool, tmp_path: Path) -> None:
    """peft loads a saved ``base_layer.weight`` in place of the base's: the change starts from there."""
    tensors = {"base_model.model.wte.base_layer.weight": np.full((3, 2), 5, np.float16), **pair("up", 6, 4)}
    if lora:
        tensors["base_model.model.wte.lora_embedding_A"] = np.ones((2, 3), np.float32)
        tensors["base_model.model.wte.lora_embedding_B"] = np.ones((2, 2), np.float32)
    base = base_with(wte__weight=(3, 2), up__weight=(6, 4))
    adapter = open_adapter(handmade(tmp_path / "adapter", tensors), base)
    assert list(adapter.low_rank) == ["up.weight"]
    dtype, bits = rebuilt(adapter, base)["wte.weight"]
    assert (dtype, widen(bits, dtype).tolist()) == ("F32" if lora else "F16", [[9.0 if lora else 5.0] * 2] * 3)


def test_tokens_leave_other_rows_bit_for_bit(tmp_path: Path) -> None:
    tensors = {"base_model.model.wte.token_adapter.trainable_tokens_delta": np.ones((2, 2), np.float32)}
    folder = handmade(tmp_path / "adapter", tensors, trainable_token_indices=[0, 2])
    bits = np.array([[0, 0], [0x7F81, 0x8000], [0, 0]], np.uint16)  # a signalling NaN, a negative zero
    bits.flags.writeable = False
    adapter = open_adapter(folder, FakeBase({"wte.weight": ("BF16", bits)}))
    assert adapter.made["wte.weight"].compute().tolist() == [[0x3F80] * 2, [0x7F81, 0x8000], [0x3F80] * 2]


def test_experts_and_their_biases(tmp_path: Path) -> None:
    """A 2-D parameter beside the stacked ones is one matrix, however the experts lie."""
    stacked = {"experts.gate_up_proj": (3, 4, 10), "experts.down_proj": (3, 5, 4), "experts.down_proj_bias": (3, 4)}
    tensors = {
        **pair("experts", 3, 4),
        **pair("experts.base_layer", 4, 5, 6),
        **pair("experts.base_layer.base_layer", 10, 4, 6),
    }
    folder = handmade(tmp_path / "adapter", tensors, target_parameters=[f"{name}" for name in stacked])
    adapter = open_adapter(folder, base_with(**stacked))
    assert (list(adapter.low_rank), len(adapter.made)) == (["experts.down_proj_bias"], 2)
    for made in adapter.made.values():
        assert made.compute().shape == made.shape


def test_a_new_head_on_a_causal_base(tmp_path: Path) -> None:
    base = base_of(build(LLAMA, **TIED), "F32", tmp_path / "base")
    model = build("LlamaForSequenceClassification", num_labels=3, **TIED)
    model.load_state_dict({n: torch.tensor(widen(b, d)) for n, (d, b) in base.tensors.items()}, strict=False)
    config = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="SEQ_CLS")
    trained = train(model, config, tmp_path / "adapter")
    adapter = opened(trained, base)
    assert adapter.full["score.weight"].shape == (3, 16)
    assert not adapter.untied
    check(adapter, base, merged_tensors(trained, tmp_path / "merged"))


@pytest.mark.parametrize("tied", [False, True])
def test_grown_embeddings(tied: bool, tmp_path: Path) -> None:
    model = build(LLAMA, tie_word_embeddings=tied)
    base = base_of(model, "F32", tmp_path / "base")
    model.resize_token_embeddings(44)
    trained = train(model, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    trained.model.save_pretrained(trained.folder, save_embedding_layers=True)
    adapter = opened(trained, base)
    changed = {**adapter.full, **adapter.made}
    assert changed["model.embed_tokens.weight"].shape == (44, 16)
    assert ("lm_head.weight" in changed) == (not tied)
    check(adapter, base, merged_tensors(trained, tmp_path / "merged"))


class Vision(torch.nn.Module):
    """Convolutions of one, two and three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch = torch.nn.Conv2d(3, 8, 4, stride=2)
        self.point = torch.nn.Conv2d(8, 6, 1)
        self.wave = torch.nn.Conv1d(4, 6, 3)
        self.volume = torch.nn.Conv3d(2, 4, (1, 2, 3))


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["patch", "point", "wave", "volume"], {}),
        (["patch", "point", "wave", "volume"], {"use_dora": True}),
        (["patch", "wave"], {"lora_bias": True}),
    ],
)
def test_convolutions(targets: list[str], settings: dict[str, Any], tmp_path: Path) -> None:
    model = Vision()
    base = FakeBase({name: ("F32", _bits(tensor)) for name, tensor in model.state_dict().items()})
    trained = train(model, LoraConfig(r=4, target_modules=targets, **settings), tmp_path / "adapter")
    merged = {name: ("F32", _bits(tensor)) for name, tensor in trained.merged.state_dict().items()}
    adapter = opened(trained, base)
    assert {*adapter.low_rank, *adapter.made} >= {f"{name}.weight" for name in targets}
    check(adapter, base, merged)


def _bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().view(np.uint32)


def test_pissa_converted_by_peft_is_a_plain_lora(tmp_path: Path) -> None:
    model = build(LLAMA)
    base = base_of(model, "F32", tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa")

    def move(adapted: Any) -> None:
        adapted.peft_config["default"].init_lora_weights = True
        adapted.save_pretrained(tmp_path / "initial")
        adapted.peft_config["default"].init_lora_weights = "pissa"
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)

    trained = train(model, config, tmp_path / "pissa", move)
    again = get_peft_model(model, config)
    again.load_state_dict(trained.model.state_dict())
    initial = str(tmp_path / "initial")
    again.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=initial)
    ours = rebuilt(open_adapter(tmp_path / "plain", base), base)
    merged = merged_tensors(trained, tmp_path / "merged")
    for name, (dtype, bits) in ours.items():
        expected = torch.tensor(widen(merged[name][1], merged[name][0]))
        torch.testing.assert_close(torch.tensor(widen(bits, dtype)), expected)


def test_numpy_is_all_it_takes(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "adapter", pair("layers.0.up", 6, 4))
    code = (
        "import sys; from pathlib import Path; import numpy\n"
        "from persona.checkpoints.adapter import open_adapter, matrix\n"
        "class Base:\n"
        "    names = {'layers.0.up.weight': ('F32', (6, 4))}; tied = {}\n"
        f"adapter = open_adapter(Path({str(folder)!r}), Base())\n"
        "delta = adapter.low_rank['layers.0.up.weight']\n"
        "assert matrix(adapter.file, delta.left).shape == (6, 2)\n"
        "assert not {'torch', 'peft', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dora_by_hand(tmp_path: Path) -> None:
    """W = [[3, 0], [0, 0]], B·A·s = [[0, 4], [2, 0]], m = (10, 3): rows of norm 5 and 2 become 10 and 3 long."""
    base = base_with(up__weight=(2, 2))
    base.tensors["up.weight"][1].view(np.float32)[0, 0] = 3
    identity = np.eye(2, dtype=np.float32)
    tensors = {
        "base_model.model.up.lora_A.weight": identity,
        "base_model.model.up.lora_B.weight": np.array([[0, 2], [1, 0]], np.float32),
        "base_model.model.up.lora_magnitude_vector": np.array([10, 3], np.float32),
    }
    adapter = open_adapter(handmade(tmp_path / "adapter", tensors, use_dora=True), base)
    w = adapter.made["up.weight"].compute().view(np.float32)
    assert w.tolist() == [[6, 8], [3, 0]]


def test_full_tensors_keep_their_dtype(tmp_path: Path) -> None:
    tensors = {**pair("up", 6, 4), "base_model.model.head.weight": np.ones((3, 4), np.float16)}
    base = base_with(up__weight=(6, 4), head__weight=(2, 4))
    adapter = open_adapter(handmade(tmp_path / "adapter", tensors, modules_to_save=["head"]), base)
    info = adapter.full["head.weight"]
    assert (info.dtype, info.shape) == ("F16", (3, 4))
    assert (as_bits(adapter.file.data(info), "F16") == 0x3C00).all()
