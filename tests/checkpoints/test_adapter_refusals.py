"""What is no LoRA of this base is refused, and the message says what, where, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig

from persona.checkpoints.adapter import CONFIG, WEIGHTS, open_adapter
from persona.checkpoints.adapters.config import HARMLESS, READ, REFUSED
from persona.errors import CheckpointError
from tests.checkpoints.peft_folders import FakeBase, base_with, handmade, pair, train

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's own, of which the oracle has many

BASE = {"up.weight": (6, 4), "up.bias": (6,), "wte.weight": (9, 4)}
UP = pair("up", 6, 4)
ZEROS = np.zeros


def refused(folder: Path, base: FakeBase | None = None) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        open_adapter(folder, base or base_with(**BASE))
    assert str(folder) in error.value.message
    assert error.value.hint
    return error.value


def says(error: CheckpointError, *words: str) -> None:
    for word in words:
        assert word in f"{error.message} {error.hint}"


def test_the_plain_adapter_is_accepted(tmp_path: Path) -> None:
    assert list(open_adapter(handmade(tmp_path / "a", UP), base_with(**BASE)).low_rank) == ["up.weight"]


@pytest.mark.parametrize("kind", ["LOHA", "IA3", "PROMPT_TUNING", "ADALORA", "TRAINABLE_TOKENS", None])
def test_other_kinds_of_adapter(kind: str | None, tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, peft_type=kind)), "peft_type", repr(kind), "merge_and_unload")


@pytest.mark.parametrize(
    ("init", "name"),
    [
        ("pissa", "PiSSA"), ("pissa_niter_16", "PiSSA"), ("olora", "OLoRA"), ("OLoRA", "OLoRA"),
        ("corda", "CorDA"), ("lora_ga", "LoRA-GA"),
    ],
)  # fmt: skip
def test_inits_that_change_the_base(init: str, name: str, tmp_path: Path) -> None:
    error = refused(handmade(tmp_path / "a", UP, init_lora_weights=init))
    says(error, "init_lora_weights", name, "modified base", "path_initial_model_for_weight_conversion")


def test_loftq_has_no_conversion(tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, init_lora_weights="loftq")), "LoftQ", "merge_and_unload")


def test_an_init_of_the_future(tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, init_lora_weights="zigzag")), "'zigzag'", "may have changed the base")


@pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_inits_that_leave_the_base_alone(init: Any, tmp_path: Path) -> None:
    assert open_adapter(handmade(tmp_path / "a", UP, init_lora_weights=init), base_with(**BASE)).low_rank


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_settings_that_change_the_arithmetic(key: str, tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, **{key: {"some": 1}})), key)


@pytest.mark.parametrize("value", ["round", 0, 1.5, True, {"a": 1}])
def test_settings_of_the_future(value: Any, tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, use_swirl=value)), "use_swirl", repr(value), "newer")


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_settings_of_the_future_that_are_not_set(value: Any, tmp_path: Path) -> None:
    assert open_adapter(handmade(tmp_path / "a", UP, use_swirl=value), base_with(**BASE)).low_rank


def test_every_setting_of_this_peft_was_judged() -> None:
    assert set(LoraConfig().to_dict()) <= {*READ, *HARMLESS, *REFUSED, "runtime_config"}
    assert not READ & HARMLESS
    assert not REFUSED.keys() & (READ | HARMLESS)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 0}, ("gives r as 0",)),
        ({"r": 3}, ("rank 2", "config says 3", "'up'")),
        ({"rank_pattern": {"up": 3}}, ("rank 2", "config says 3")),
        ({"lora_alpha": None}, ("lora_alpha",)),
        ({"use_rslora": "true"}, ("use_rslora as 'true'",)),
        ({"rank_pattern": {"(": 2}}, ("rank_pattern", "regular expression")),
        ({"alpha_pattern": {"up": "much"}}, ("alpha_pattern", "'much'")),
        ({"modules_to_save": "head"}, ("modules_to_save",)),
        ({"trainable_token_indices": [1, 1]}, ("trainable_token_indices",)),
        ({"use_dora": True}, ("lacks a lora_magnitude_vector", "use_dora = True")),
        ({"lora_bias": True}, ("lacks a lora_B.bias",)),
    ],
)
def test_configs_that_do_not_fit(config: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    says(refused(handmade(tmp_path / "a", UP, **config)), *words)


@pytest.mark.parametrize("text", ["{", "[1]", '"LORA"'])
def test_a_config_that_is_no_json_object(text: str, tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP)
    (folder / CONFIG).write_text(text)
    says(refused(folder), CONFIG, "JSON")


KEY = "base_model.model."


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (pair("up", 5, 4), {}, ("'base_model.model.up.lora_A.weight'", "[5, 2]", "'up.weight'", "[6, 4]", "another base")),
        ({}, {}, ("contains no tensors", "ZeRO-3")),
        (pair("up", 6, 3), {}, ("[2, 3]", "'up.weight'", "[6, 4]")),
        (pair("up.bias", 6, 4), {}, ("'up.bias.weight'", "Similar names", "up.weight")),
        ({k: v for k, v in UP.items() if "lora_B" in k}, {}, ("lora_A", "missing", "up.lora_B.weight")),
        ({k: v for k, v in UP.items() if "lora_A" in k}, {}, ("lora_B", "missing")),
        ({**UP, f"{KEY}up.lora_diag": ZEROS(2, "f4")}, {}, ("'base_model.model.up.lora_diag'", "unknown key")),
        ({**UP, f"{KEY}up.base_layer.scale": ZEROS(2, "f4")}, {}, ("up.base_layer.scale",)),
        ({**UP, f"{KEY}head.weight": ZEROS((3, 4), "f4")}, {}, ("'base_model.model.head.weight'", "does not have")),
        ({**UP, f"{KEY}wte.weight": ZEROS((9, 5), "f4")}, {"modules_to_save": ["wte"]}, ("[9, 5]", "[9, 4]")),
        ({f"{KEY}up.weight": ZEROS((5, 4), "f4")}, {}, ("[5, 4]", "[6, 4]")),
        ({**UP, f"{KEY}up.base_layer.bias": ZEROS(7, "f4")}, {"bias": "all"}, ("[7]", "[6]")),
        ({**UP, f"{KEY}up.lora_B.bias": ZEROS(6, "f4")}, {}, ("has a lora_B.bias", "lora_bias = False")),
        ({**UP, f"{KEY}up.lora_magnitude_vector": ZEROS(6, "f4")}, {}, ("use_dora = False",)),
        ({**UP, f"{KEY}up.lora_magnitude_vector": ZEROS(4, "f4")}, {"use_dora": True}, ("[4]", "[6, 4]")),
        ({f"{KEY}up.lora_magnitude_vector": ZEROS(4, "f4")}, {"use_dora": True}, ("no factors lora_A and lora_B",)),
        ({k: v.astype("i4") for k, v in UP.items()}, {}, ("I32",)),
        ({k: v[:0] for k, v in UP.items()}, {}, ("[0, 4]", "ZeRO-3")),
        ({**UP, f"{KEY}up.lora_A.other.weight": ZEROS((2, 4), "f4")}, {}, ("different values for the same tensor",)),
        (
            {k.replace("A.w", "A.a.w").replace("B.w", "B.b.w"): v for k, v in UP.items()}, {},
            ("more than one adapter: a, b",),
        ),
        (
            {**UP, f"{KEY}wte.token_adapter.trainable_tokens_delta": ZEROS((2, 4), "f4")},
            {"trainable_token_indices": [1, 9]}, ("2 tokens", "[9, 4]"),
        ),
        (
            {**UP, f"{KEY}wte.token_adapter.trainable_tokens_delta": ZEROS((2, 4), "f4")},
            {"trainable_token_indices": [1]}, ("1 tokens",),
        ),
        ({**UP, f"{KEY}up.weight": ZEROS((6, 4), "f4")}, {"modules_to_save": ["up"]}, ("second change", "'up.weight'")),
        (
            {**UP, **pair("up.base_layer", 6, 4)}, {},
            ("'base_model.model.up.base_layer.lora_A.weight'", "MultiheadAttention"),
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(
    tensors: dict[str, Any], config: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    says(refused(handmade(tmp_path / "a", tensors, **config)), *words)


def test_a_quantised_base(tmp_path: Path) -> None:
    base = FakeBase({"up.weight": ("F8_E4M3", ZEROS((6, 4), np.uint8))})
    says(refused(handmade(tmp_path / "a", UP), base), "'up.weight'", "F8_E4M3", "unquantized")


EXPERTS = {"mlp.experts.gate_up_proj": (3, 8, 8), "mlp.experts.down_proj": (3, 8, 8)}


def test_experts_that_could_be_either(tmp_path: Path) -> None:
    tensors = {**pair("mlp.experts", 8, 8, 6), **pair("mlp.experts.base_layer", 8, 8, 6)}
    folder = handmade(tmp_path / "a", tensors, target_parameters=["gate_up_proj", "down_proj"])
    says(refused(folder, base_with(**EXPERTS)), "4 assignments fit", "mlp.experts.down_proj", "merge_and_unload")


@pytest.mark.parametrize("rows", [7, 8])
def test_experts_of_another_base(rows: int, tmp_path: Path) -> None:
    tensors = pair("mlp.experts", rows, 9, 6)
    folder = handmade(tmp_path / "a", tensors, target_parameters=["mlp.experts.down_proj"])
    says(refused(folder, base_with(**EXPERTS)), f"[{rows}, 6]", "mlp.experts.down_proj", "[3, 8, 8]", "another base")


def test_grouped_convolutions(tmp_path: Path) -> None:
    """peft cannot merge them either."""
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, groups=2))
    state = {name: ("F32", tensor.detach().numpy().view(np.uint32)) for name, tensor in model.state_dict().items()}
    folder = tmp_path / "a"
    peft.get_peft_model(model, LoraConfig(r=2, target_modules=["0"])).save_pretrained(folder)
    says(refused(folder, FakeBase(state)), "'0.weight'", "[6, 2, 3, 3]")


def test_attention_modules(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.MultiheadAttention(8, 2))
    state = {name: ("F32", tensor.detach().numpy().view(np.uint32)) for name, tensor in model.state_dict().items()}
    folder = train(model, LoraConfig(r=2, target_modules=["0"]), tmp_path / "a").folder
    says(refused(folder, FakeBase(state)), "MultiheadAttention", "merge_and_unload")


def test_no_config(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP)
    (folder / CONFIG).unlink()
    says(refused(folder), f"has no {CONFIG}")


def test_no_weights(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP)
    (folder / WEIGHTS).unlink()
    says(refused(folder), f"no {WEIGHTS}")


def test_pickled_weights(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    says(refused(folder), "pickle", "persona convert")


def test_truncated_weights(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    says(refused(folder), WEIGHTS, "truncated")


def test_several_adapters_in_a_folder(tmp_path: Path) -> None:
    for name in ("calm", "wild"):
        handmade(tmp_path / "all" / name, UP)
    says(refused(tmp_path / "all"), "more than one adapter: calm, wild", str(tmp_path / "all" / "calm"))


def test_one_adapter_a_folder_further(tmp_path: Path) -> None:
    handmade(tmp_path / "all" / "calm", UP)
    says(refused(tmp_path / "all"), str(tmp_path / "all" / "calm"))


def test_checkpoints_below_an_adapter_do_not_matter(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "run", UP)
    for step in (10, 20):
        handmade(folder / f"checkpoint-{step}", UP)
    assert open_adapter(folder, base_with(**BASE)).low_rank


def test_the_config_is_kept_as_it_was(tmp_path: Path) -> None:
    folder = handmade(tmp_path / "a", UP, peft_version="0.21.2")
    adapter = open_adapter(folder, base_with(**BASE))
    assert adapter.config == json.loads((folder / CONFIG).read_text())
