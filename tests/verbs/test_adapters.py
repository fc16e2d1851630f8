"""Builds of PEFT adapters: what peft's own merge gives, and what a loaded adapter answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

import persona
from persona.errors import CheckpointError, UsageError
from tests.checkpoints.peft_folders import build, train
from tests.checkpoints.test_adapter import CONV1D, GPT2, KINDS, LLAMA
from tests.models import TinyModels, load

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own, of which the oracle has many

MakeRepo = Callable[[Path], persona.Repository]
CAUSAL = [kind for kind, (name, _, _) in KINDS.items() if "CausalLM" in name or "LMHead" in name]


def steps_apart(a: torch.Tensor, b: torch.Tensor) -> int:
    """The most units in the last place between two bf16 tensors."""

    def ordered(x: torch.Tensor) -> torch.Tensor:
        bits = x.contiguous().view(torch.int16).to(torch.int32)
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    return int((ordered(a) - ordered(b)).abs().max()) if a.numel() else 0


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_build_at_alpha_1_is_pefts_merge(make_repo: MakeRepo, tmp_path: Path, kind: str) -> None:
    """A bf16 base: merged by peft in fp32, then cast; at most one unit in the last place apart."""
    name, settings, config = KINDS[kind]
    model = build(name, **settings).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    trained = train(model.float(), LoraConfig(**{"r": 4, **config}), tmp_path / "adapter")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "adapter", name="a")
    persona.build(repo, tmp_path / "out")
    trained.merged.to(torch.bfloat16).save_pretrained(tmp_path / "merged")
    out, wanted = load(tmp_path / "out"), load(tmp_path / "merged")
    assert sorted(out) == sorted(wanted)
    for tensor in out:
        assert steps_apart(out[tensor].bfloat16(), wanted[tensor]) <= 1, tensor


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_build_answers_as_the_loaded_adapter(make_repo: MakeRepo, tmp_path: Path, kind: str) -> None:
    name, settings, config = KINDS[kind]
    model = build(name, **settings)
    model.save_pretrained(tmp_path / "base")
    trained = train(model, LoraConfig(**{"r": 4, **config}), tmp_path / "adapter")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "adapter", name="a")
    persona.build(repo, tmp_path / "out")
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    tokens = torch.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        torch.testing.assert_close(built(tokens)[0], trained.model(tokens)[0])


@pytest.mark.parametrize("alpha", [0.5, -1.0])
@pytest.mark.parametrize(("name", "targets"), [(LLAMA, "all-linear"), (GPT2, CONV1D)])
def test_alpha_scales_the_adapter(
    make_repo: MakeRepo, tmp_path: Path, name: str, targets: str | list[str], alpha: float
) -> None:
    model = build(name)
    model.save_pretrained(tmp_path / "base")
    train(model, LoraConfig(r=4, target_modules=targets), tmp_path / "adapter")
    repo = make_repo(tmp_path / "base")
    persona.commit(repo, tmp_path / "adapter", name="a", alpha=alpha)
    persona.build(repo, tmp_path / "out")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    for module in adapted.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {key: value * alpha for key, value in module.scaling.items()}
    tokens = torch.arange(1, 13).reshape(2, 6)
    built = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(built(tokens)[0], adapted.eval()(tokens)[0])


def test_an_adapter_and_a_full_fine_tune_add_up(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    trained = train(base, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    repo = make_repo(models.base("float32"))
    persona.commit(repo, models.run(1, "float32"), name="dense", alpha=0.5)
    persona.commit(repo, tmp_path / "adapter", name="lora", alpha=2.0)
    persona.build(repo, tmp_path / "out")
    w, tuned, merged = load(models.base("float32")), load(models.run(1, "float32")), trained.merged.state_dict()
    for name, tensor in load(tmp_path / "out").items():
        exact = w[name].double() + 0.5 * (tuned[name].double() - w[name].double())
        exact += 2.0 * (merged[name].double() - w[name].double())
        torch.testing.assert_close(tensor.double(), exact, rtol=2e-6, atol=1e-6)


def test_two_adapters_add_up_as_their_merges_do(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    """W + α₁(M₁ - W) + α₂(M₂ - W), with Mᵢ what peft merges each adapter into: no cross-terms of their factors."""
    repo, taus = make_repo(models.base("float32")), []
    w = {name: tensor.double() for name, tensor in load(models.base("float32")).items()}
    for number, (targets, alpha) in enumerate([(["q_proj", "up_proj"], 0.75), (["q_proj", "v_proj"], -1.5)]):
        base = AutoModelForCausalLM.from_pretrained(models.base("float32"))
        torch.manual_seed(number)
        trained = train(base, LoraConfig(r=4 + number, lora_alpha=8, target_modules=targets), tmp_path / f"a{number}")
        merged = trained.merged.state_dict()
        taus.append({name: alpha * (merged[name].double() - tensor) for name, tensor in w.items()})
        persona.commit(repo, tmp_path / f"a{number}", name=f"a{number}", alpha=alpha)
    persona.build(repo, tmp_path / "out")
    q = "model.layers.0.self_attn.q_proj.weight"
    assert all(tau[q].abs().max() > 1e-3 for tau in taus), "both change it"
    for name, tensor in load(tmp_path / "out").items():
        torch.testing.assert_close(tensor.double(), w[name] + taus[0][name] + taus[1][name], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_one_of_a_tie_untied_or_merged(make_repo: MakeRepo, tmp_path: Path, target: str, alpha: float) -> None:
    """Untied, a build answers as the loaded adapter; merged, as merge_and_unload. Alpha scales PEFT's ΔW."""
    model = build(LLAMA, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "base")
    train(model, LoraConfig(r=2, target_modules=["q_proj", target]), tmp_path / "a")
    repo = make_repo(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"ties 'lm_head\.weight'"):
        persona.commit(repo, tmp_path / "a", name="a")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "a").eval()
    for module in loaded.modules():
        if hasattr(module, "lora_A"):
            module.scaling["default"] *= alpha
    tokens = torch.arange(1, 13).reshape(2, 6)
    with torch.no_grad():
        wanted = {"untie": loaded(tokens).logits}
        wanted["merge"] = loaded.merge_and_unload()(tokens).logits
    assert not torch.allclose(wanted["untie"], wanted["merge"])
    for tied, logits in wanted.items():
        persona.commit(repo, tmp_path / "a", name="a", alpha=alpha, tied=tied)
        persona.build(repo, tmp_path / tied)
        with torch.no_grad():
            built = AutoModelForCausalLM.from_pretrained(tmp_path / tied).eval()(tokens).logits
        torch.testing.assert_close(built, logits)


def test_what_tied_is_not_for(models: TinyModels, make_repo: MakeRepo) -> None:
    repo = make_repo(models.base())
    for run, tied in ((models.run(1), "untie"), (None, "merge"), (models.run(1), "both")):
        with pytest.raises(UsageError, match="--tied"):
            persona.commit(repo, run, name="a" if run else None, tied=tied)
