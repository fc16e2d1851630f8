"""Adapters that are written for models of many families, loaded by PEFT, against the recipe's full build."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel

import persona
from tests.checkpoints.peft_folders import handmade, pair, randomise, train
from tests.checkpoints.test_modules import MODELS
from tests.models import nudge

MakeRepo = Callable[[Path], persona.Repository]
pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own

TARGETS: dict[str, dict[str, Any]] = {
    "LlavaForConditionalGeneration": {"target_modules": "all-linear"},
    "Qwen2VLForConditionalGeneration": {"target_modules": r".*language_model.*\.(q_proj|v_proj)"},
    "MixtralForCausalLM": {"target_modules": "all-linear"},
    "Qwen3MoeForCausalLM": {"target_modules": ["q_proj", "gate", "gate_proj", "up_proj", "down_proj"]},
    "GPT2LMHeadModel": {"target_modules": ["c_attn", "c_fc"]},
    "WhisperForConditionalGeneration": {"target_modules": ["q_proj", "fc1"]},
}
FULL = ["Qwen2VLForConditionalGeneration", "MixtralForCausalLM", "GptOssForCausalLM", "GPT2LMHeadModel"]


def made(kind: str) -> Any:
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**MODELS[kind])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def state(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    return dict(getattr(transformers, kind).from_pretrained(folder).state_dict())


def with_adapter(kind: str, base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = getattr(transformers, kind).from_pretrained(base)
    return dict(PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict())


def check_equal(kind: str, folder: Path, wanted: dict[str, torch.Tensor]) -> None:
    """Sums of fp32 products in another order: the weights are near 0.1."""
    got = with_adapter(kind, folder / "base", folder / "adapter")
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.allclose(got[name], tensor, rtol=0, atol=2e-6), name


@pytest.mark.parametrize("kind", TARGETS)
def test_an_exact_adapter_is_the_full_build(kind: str, make_repo: MakeRepo, tmp_path: Path) -> None:
    model = made(kind)
    model.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    for seed, (name, alpha) in enumerate((("one", 1.0), ("two", -0.5))):
        settings = LoraConfig(r=2, **TARGETS[kind])
        train(model, settings, tmp_path / name, partial(randomise, seed=seed))
        persona.commit(repo, tmp_path / name, name=name, alpha=alpha)
    persona.build(repo, tmp_path / "full")
    wanted, before = state(kind, tmp_path / "full"), state(kind, tmp_path / "base")
    assert any(not torch.equal(wanted[name], before[name]) for name in wanted)
    persona.build(repo, tmp_path / "adapter", as_adapter=True)
    check_equal(kind, tmp_path, wanted)
    persona.build(repo, tmp_path / "adapter", as_adapter=True, rank=8, replace=True)
    check_equal(kind, tmp_path, wanted)


@pytest.mark.parametrize("kind", FULL)
def test_the_nearest_adapter_of_a_full_run(kind: str, make_repo: MakeRepo, tmp_path: Path) -> None:
    """With the full rank, PEFT's merge is the run in every tensor that is not listed as left out."""
    model = made(kind)
    model.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    nudge(model, 1, 0.01).save_pretrained(tmp_path / "run")
    persona.commit(repo, tmp_path / "run", name="run")
    done = persona.build(repo, tmp_path / "adapter", as_adapter=True, rank=64)
    assert done.adapter is not None
    wanted, before = state(kind, tmp_path / "run"), state(kind, tmp_path / "base")
    got = with_adapter(kind, tmp_path / "base", tmp_path / "adapter")
    wrong = {name for name in wanted if not torch.allclose(got[name], wanted[name], rtol=0, atol=2e-6)}
    assert all(torch.equal(got[name], before[name]) for name in wrong)
    left_out = [tensor for tensor in done.adapter.left_out if "embed_tokens" not in tensor.name]
    assert len([name for name in wrong if "embed_tokens" not in name and "lm_head" not in name]) == len(left_out)
    assert not any("expert" in name and wanted[name].ndim == 3 for name in wrong)
    assert all(error.error < 1e-4 for error in done.adapter.tensors)


def test_experts_of_their_own_ranks_are_stacked(make_repo: MakeRepo, tmp_path: Path) -> None:
    """As written under transformers 4: a module for each expert, of which some were not trained."""
    kind = "Qwen3MoeForCausalLM"
    made(kind).save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    tensors = {}
    for expert, layer, rows, columns, rank in ((0, "gate", 12, 16, 2), (0, "up", 12, 16, 3), (2, "down", 16, 12, 2)):
        tensors |= pair(f"model.layers.1.mlp.experts.{expert}.{layer}_proj", rows, columns, rank)
    persona.commit(repo, handmade(tmp_path / "a", tensors, rank_pattern={"up_proj": 3}), name="a", alpha=0.1)
    persona.build(repo, tmp_path / "full")
    done = persona.build(repo, tmp_path / "adapter", as_adapter=True)
    assert done.adapter is not None
    assert (done.adapter.rank, done.adapter.modules) == (5, 2)
    check_equal(kind, tmp_path, state(kind, tmp_path / "full"))


def test_experts_get_the_nearest_adapter_of_the_stacked_matrix(make_repo: MakeRepo, tmp_path: Path) -> None:
    """The oracle is torch's SVD of each expert's gate and up projection, one below the other."""
    kind = "MixtralForCausalLM"
    model = made(kind)
    model.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    nudge(model, 1, 0.01, "gate_up_proj").save_pretrained(tmp_path / "run")
    persona.commit(repo, tmp_path / "run", name="run")
    done = persona.build(repo, tmp_path / "adapter", as_adapter=True, rank=3)
    assert done.adapter is not None
    assert done.adapter.rank == 3
    before, run = state(kind, tmp_path / "base"), state(kind, tmp_path / "run")
    got = with_adapter(kind, tmp_path / "base", tmp_path / "adapter")
    missed = 0.0
    for name in (name for name in run if name.endswith("gate_up_proj")):
        for expert in range(3):
            delta = (run[name][expert] - before[name][expert]).double()
            best = torch.linalg.svdvals(delta)[3:].square().sum().sqrt()
            actual = (got[name][expert].double() - run[name][expert]).norm()
            assert actual == pytest.approx(float(best), rel=1e-4)
            missed += float(best) ** 2
    norm = sum(tensor.norm**2 for tensor in done.adapter.tensors)
    assert done.adapter.error == pytest.approx((missed / norm) ** 0.5, rel=1e-4)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == []
    assert config["target_parameters"] == [f"model.layers.{n}.mlp.experts.gate_up_proj" for n in (0, 1)]
