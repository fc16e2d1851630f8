"""A recipe as an adapter: what peft makes of it is what the recipe says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import persona
from persona.errors import Refusal, UsageError
from tests.checkpoints.peft_folders import build, handmade, randomise, train
from tests.checkpoints.test_adapter import CONV1D, GPT2, LLAMA
from tests.models import TinyModels, load

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own

MakeRepo = Callable[[Path], persona.Repository]
TOKENS = torch.arange(1, 13).reshape(2, 6)
UNIT = 2.0**-24

CASES: dict[str, tuple[str, list[tuple[float, dict[str, Any]]]]] = {
    "two of one rank": (LLAMA, [(1.0, {"target_modules": "all-linear"}), (0.5, {"target_modules": "all-linear"})]),
    "ranks, targets, signs": (
        LLAMA,
        [
            (0.7, {"r": 2, "target_modules": ["q_proj", "v_proj"]}),
            (-1.3, {"r": 5, "target_modules": ["q_proj", "up_proj"], "lora_alpha": 3}),
        ],
    ),
    "rsLoRA and a plain one": (
        LLAMA,
        [(1.0, {"r": 3, "target_modules": ["q_proj"], "use_rslora": True}), (2.0, {"target_modules": ["q_proj"]})],
    ),
    "patterns": (
        LLAMA,
        [
            (0.3, {"target_modules": "all-linear", "rank_pattern": {"q_proj": 7}, "alpha_pattern": {"v_proj": 2}}),
            (0.9, {"target_modules": ["k_proj"]}),
        ],
    ),
    "Conv1D": (GPT2, [(1.0, {"target_modules": CONV1D}), (-0.5, {"r": 2, "target_modules": ["c_attn"]})]),
    "embedding and head": (
        LLAMA,
        [
            (1.0, {"target_modules": ["embed_tokens", "lm_head"]}),
            (0.5, {"r": 2, "target_modules": ["embed_tokens", "q_proj"]}),
        ],
    ),
}  # fmt: skip


def committed(make_repo: MakeRepo, folder: Path, name: str, vectors: list[tuple[float, dict[str, Any]]]) -> Any:
    """A repository with one LoRA vector for each (alpha, config), and the base model."""
    model = build(name)
    model.save_pretrained(folder / "base")
    repo = make_repo(folder / "base")
    for number, (alpha, config) in enumerate(vectors):
        settings = LoraConfig(**{"r": 4, **config})
        train(model, settings, folder / f"a{number}", lambda adapted, n=number: randomise(adapted, n))
        persona.commit(repo, folder / f"a{number}", name=f"a{number}", alpha=alpha)
    return repo, model


def adapted(model_folder: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), adapter).eval()


def deltas(folder: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """ΔW of every module, by peft, in fp64."""
    loaded = adapted(folder, adapter).double()
    found = {}
    for name, module in loaded.named_modules():
        if hasattr(module, "get_delta_weight") and module.lora_A.keys() | module.lora_embedding_A.keys():
            found[name.removeprefix("base_model.model.")] = module.get_delta_weight("default").detach()
    return found


@pytest.mark.parametrize("case", CASES)
def test_peft_loads_the_sum_of_the_adapters(make_repo: MakeRepo, tmp_path: Path, case: str) -> None:
    """The sum is made by peft from the separate adapters, in fp64; ours differs by B's one rounding to fp32.

    |B'A − cBA| ≤ u·|cB|·|A|, entry by entry, and u is half a unit in the last place.
    """
    name, vectors = CASES[case]
    repo, _ = committed(make_repo, tmp_path, name, vectors)
    done = persona.build(repo, tmp_path / "out", as_adapter=True)
    wanted: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    for number, (alpha, _) in enumerate(vectors):
        parts, whole = (
            magnitudes(tmp_path / "base", tmp_path / f"a{number}"),
            deltas(tmp_path / "base", tmp_path / f"a{number}"),
        )
        for module, delta in whole.items():
            wanted[module] = wanted.get(module, 0) + alpha * delta
            sizes[module] = sizes.get(module, 0) + abs(alpha) * parts[module]
    found = deltas(tmp_path / "base", tmp_path / "out")
    assert sorted(found) == sorted(wanted)
    for module, delta in found.items():
        assert bool(((delta - wanted[module]).abs() <= 1.01 * UNIT * sizes[module]).all()), module
    assert done.adapter is not None
    assert (done.adapter.modules, done.adapter.error) == (len(found), None)
    assert persona.verify(tmp_path / "out").ok


def magnitudes(folder: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """|s|·|B|·|A| of every module, oriented as ΔW is."""
    loaded = adapted(folder, adapter).double()
    for parameter in loaded.parameters():
        parameter.data = parameter.data.abs()
    found = {}
    for name, module in loaded.named_modules():
        if hasattr(module, "get_delta_weight") and module.lora_A.keys() | module.lora_embedding_A.keys():
            found[name.removeprefix("base_model.model.")] = module.get_delta_weight("default").detach().abs()
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_adapter_answers_as_the_build(make_repo: MakeRepo, tmp_path: Path, case: str) -> None:
    repo, _ = committed(make_repo, tmp_path, *CASES[case])
    persona.build(repo, tmp_path / "out", as_adapter=True)
    persona.build(repo, tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    with torch.no_grad():
        torch.testing.assert_close(adapted(tmp_path / "base", tmp_path / "out")(TOKENS)[0], whole(TOKENS)[0])


def test_a_recipe_worked_out_by_hand(make_repo: MakeRepo, tmp_path: Path) -> None:
    """s = alpha/r = 2 for both; B is scaled by λαs: 0.5 · 1 · 2 = 1 and 0.5 · −3 · 2 = −3."""
    model = build(LLAMA)
    model.save_pretrained(tmp_path / "base")
    repo = make_repo(tmp_path / "base")
    key = "base_model.model.model.layers.0.self_attn.k_proj"
    for name, alpha, value in (("one", 1.0, 1.0), ("two", -3.0, 2.0)):
        a = np.full((2, 16), value, np.float32)
        b = np.full((8, 2), 10 * value, np.float32)
        tensors = {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
        persona.commit(repo, handmade(tmp_path / name, tensors), name=name, alpha=alpha)
    text = repo.recipe_path.read_text()
    repo.recipe_path.write_text(text.replace("[vectors.one]", "[merge]\nscale = 0.5\n\n[vectors.one]"))
    done = persona.build(repo, tmp_path / "out", as_adapter=True)
    made = load(tmp_path / "out")
    assert made[f"{key}.lora_A.weight"].tolist() == [[1.0] * 16] * 2 + [[2.0] * 16] * 2
    assert made[f"{key}.lora_B.weight"].tolist() == [[10.0, 10.0, -60.0, -60.0]] * 8
    assert (done.edited, done.adapter and done.adapter.rank) == (True, 4)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (4, 4, {})
    assert config["target_modules"] == ["model.layers.0.self_attn.k_proj"]


def test_it_is_what_vllm_and_llama_cpp_read(make_repo: MakeRepo, tmp_path: Path) -> None:
    """Neither knows patterns: the scale of a module is lora_alpha / r in vLLM, and lora_alpha / its own rank in llama.cpp."""
    repo, _ = committed(make_repo, tmp_path, *CASES["ranks, targets, signs"])
    persona.build(repo, tmp_path / "out", as_adapter=True)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    ranks = {len(t) for name, t in tensors.items() if name.endswith(".lora_A.weight")}
    assert ranks == {config["r"]} == {config["lora_alpha"]} == {7}
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert (config["modules_to_save"], config["bias"], config.get("use_rslora"), config.get("use_dora")) == (
        None, "none", None, None,
    )  # fmt: skip
    for name in tensors:
        assert name.startswith("base_model.model.model.layers.")
        assert name.endswith((".lora_A.weight", ".lora_B.weight"))
        assert name.removeprefix("base_model.model.").rpartition(".lora_")[0] in config["target_modules"]


def test_it_can_be_committed_and_builds_the_same_again(make_repo: MakeRepo, tmp_path: Path) -> None:
    """One adapter at alpha 1 and scale 1: nothing is rounded, so the bits come back."""
    repo, _ = committed(make_repo, tmp_path, LLAMA, [(1.0, {"target_modules": "all-linear", "lora_alpha": 8})])
    persona.build(repo, tmp_path / "out", as_adapter=True)
    persona.build(repo, tmp_path / "whole")
    shutil.copytree(tmp_path / "out", tmp_path / "plain")
    (tmp_path / "plain" / "persona.json").unlink()
    persona.rm(repo, ["a0"])
    persona.commit(repo, tmp_path / "plain", name="again")
    persona.build(repo, tmp_path / "second")
    first, second = load(tmp_path / "whole"), load(tmp_path / "second")
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_only_and_except_leave_modules_out(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo, _ = committed(make_repo, tmp_path, LLAMA, [(1.0, {"target_modules": ["q_proj", "v_proj"]})])
    text = repo.recipe_path.read_text()
    repo.recipe_path.write_text(text + 'except = ["*.v_proj.*"]\n')
    persona.build(repo, tmp_path / "out", as_adapter=True)
    assert {name.split(".")[-3] for name in load(tmp_path / "out")} == {"q_proj"}


def test_files_of_the_bare_model_get_the_models_names(make_repo: MakeRepo, tmp_path: Path) -> None:
    """As gpt2 itself lies on the hub: no "transformer." before its names."""
    model = build(GPT2)
    model.save_pretrained(tmp_path / "full")
    shutil.copytree(tmp_path / "full", tmp_path / "base")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load(tmp_path / "full").items()}
    save_file(bare, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    repo = make_repo(tmp_path / "base")
    train(model, LoraConfig(r=4, target_modules=CONV1D), tmp_path / "a")
    persona.commit(repo, tmp_path / "a", name="a")
    persona.build(repo, tmp_path / "out", as_adapter=True)
    one, other = deltas(tmp_path / "base", tmp_path / "a"), deltas(tmp_path / "base", tmp_path / "out")
    assert sorted(one) == sorted(other)
    assert all(bool(((one[name] - other[name]).abs() <= 1e-6 * one[name].abs().max()).all()) for name in one)


REFUSED = {
    "dora": {"target_modules": ["q_proj"], "use_dora": True},
    "saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "biases": {"target_modules": CONV1D, "bias": "all"},
    "lora_bias": {"target_modules": CONV1D, "lora_bias": True},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_adapter_can_say_is_refused_by_name(make_repo: MakeRepo, tmp_path: Path, kind: str) -> None:
    name = GPT2 if "bias" in kind else LLAMA
    repo, _ = committed(
        make_repo,
        tmp_path,
        name,
        [(1.0, {"target_modules": CONV1D if name == GPT2 else ["q_proj"]}), (0.5, REFUSED[kind])],
    )
    with pytest.raises(Refusal, match=r"vector 'a1' changes [\w.]+\.(weight|bias) as a whole tensor") as error:
        persona.build(repo, tmp_path / "out", as_adapter=True)
    assert "--rank R" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_a_shared_head_is_refused(make_repo: MakeRepo, tmp_path: Path) -> None:
    model = build(LLAMA, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True)
    repo = make_repo(tmp_path / "base")
    train(model, config, tmp_path / "a")
    persona.commit(repo, tmp_path / "a", name="a")
    with pytest.raises(Refusal, match=r"'a' changes model.embed_tokens.weight: embedding and head share it"):
        persona.build(repo, tmp_path / "out", as_adapter=True)
    done = persona.build(repo, tmp_path / "out", as_adapter=True, rank=4)
    assert done.adapter is not None
    assert [one.name for one in done.adapter.left_out] == ["model.embed_tokens.weight"]


def test_a_dense_vector_is_refused(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    persona.commit(repo, models.run(1), name="dense")
    with pytest.raises(Refusal, match=r"vector 'dense' changes lm_head\.weight as a whole tensor") as error:
        persona.build(repo, tmp_path / "out", as_adapter=True)
    assert "--rank R" in error.value.hint


def test_options_that_do_not_go_together(repo: persona.Repository, tmp_path: Path) -> None:
    for options in ({"rank": 4}, {"as_adapter": True, "rank": 0}, {"as_adapter": True, "shard_size": 100}):
        with pytest.raises(UsageError):
            persona.build(repo, tmp_path / "out", **options)
    with pytest.raises(Refusal, match="changes nothing"):
        persona.build(repo, tmp_path / "out", as_adapter=True)
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_replaced_like_a_build(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo, _ = committed(make_repo, tmp_path, LLAMA, [(1.0, {"target_modules": ["q_proj"]})])
    persona.build(repo, tmp_path / "out")
    with pytest.raises(Refusal, match="earlier build"):
        persona.build(repo, tmp_path / "out", as_adapter=True)
    persona.build(repo, tmp_path / "out", as_adapter=True, replace=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "persona.json",
    ]  # fmt: skip
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert 'model = PeftModel.from_pretrained(base, "path/to/this/folder")' in card
    with (tmp_path / "out" / "adapter_config.json").open("a") as file:
        file.write("\n")
    assert not persona.verify(tmp_path / "out").ok


def test_factors_in_a_short_format(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo, _ = committed(make_repo, tmp_path, LLAMA, [(0.3, {"target_modules": ["q_proj"]})])
    persona.build(repo, tmp_path / "out", as_adapter=True, dtype="bf16")
    assert {tensor.dtype for tensor in load(tmp_path / "out").values()} == {torch.bfloat16}
    assert persona.verify(tmp_path / "out").ok


def test_convolutions_keep_their_shape(make_repo: MakeRepo, tmp_path: Path) -> None:
    """Two of them stacked and committed again have the τ that the two have together."""
    (tmp_path / "base").mkdir()
    save_file(
        {"conv.weight": torch.zeros(6, 4, 3, 3), "up.weight": torch.zeros(5, 4)},
        tmp_path / "base" / "model.safetensors",
    )
    repo = make_repo(tmp_path / "base")
    entries = np.random.default_rng(0)
    prefix = "base_model.model.conv"
    for name, alpha, rank in (("one", 1.0, 2), ("two", -0.5, 3)):
        a = entries.standard_normal((rank, 4, 3, 3), np.float32)
        b = entries.standard_normal((6, rank, 1, 1), np.float32)
        folder = handmade(tmp_path / name, {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}, r=rank)
        persona.commit(repo, folder, name=name, alpha=alpha)
    persona.build(repo, tmp_path / "out", as_adapter=True)
    made = load(tmp_path / "out")
    assert made[f"{prefix}.lora_A.weight"].shape == (5, 4, 3, 3)
    assert made[f"{prefix}.lora_B.weight"].shape == (6, 5, 1, 1)
    wanted = persona.vector(repo, "one")["conv.weight"] - 0.5 * persona.vector(repo, "two")["conv.weight"]
    (tmp_path / "out" / "persona.json").unlink()
    persona.commit(repo, tmp_path / "out", name="both")
    torch.testing.assert_close(persona.vector(repo, "both")["conv.weight"], wanted)
