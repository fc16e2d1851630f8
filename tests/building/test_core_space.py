"""Builds of adapters by methods over matrices: what torch's decompositions of the whole matrices give."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file

import persona
from persona.building import run as engine
from persona.building.plan import thin_rank
from persona.methods.parts import core
from persona.recipe.model import Recipe
from persona.workspace.record import worktree_recipe
from tests.checkpoints.peft_folders import randomise, train
from tests.models import TinyModels, load
from tests.verbs.test_adapter_families import made

METHODS = ["iso_c", "svc", "tsv_m", "wudi"]
SHAPES = {"q_proj": (32, 32), "up_proj": (48, 32), "down_proj": (32, 48)}


def adapter(folder: Path, seed: int, rank: int, **modules: str) -> Path:
    """An adapter of the modules; rslora, and a whole embedding matrix if asked for."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 5, "target_modules": sorted(modules), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": seed == 2}))
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, part in modules.items():
        rows, columns = SHAPES[module]
        for layer in (0, 1):
            name = f"base_model.model.model.layers.{layer}.{part}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) / 8
            tensors[f"{name}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) / 8
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def adapted(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> persona.Repository:
    """Adapters of different modules and ranks, one that is too thick, a sum of two, and a full fine-tune."""
    root = tmp_path_factory.mktemp("core")
    persona.init(root / "work", models.base("float32"), author="Test")
    repo = persona.open(root / "work")
    attention, mlp = {"q_proj": "self_attn"}, {"up_proj": "mlp", "down_proj": "mlp"}
    persona.commit(repo, adapter(root / "1", 1, 2, **attention), name="a")
    persona.commit(repo, adapter(root / "2", 2, 3, **attention, **mlp), name="b")
    persona.commit(repo, adapter(root / "3", 3, 4, **mlp), name="c")
    persona.commit(repo, adapter(root / "4", 4, 40, **attention), name="thick")
    persona.commit(repo, models.run(1, "float32"), name="run")
    persona.derive(repo, "sum", "0.5 * b - c")
    return repo


def write(repo: persona.Repository, method: str, **alphas: float) -> Recipe:
    ids = {one.name: one.id for one in persona.vectors(repo, "HEAD")}
    head = repo.head_text().partition("[vectors")[0].partition("[merge]")[0]
    tables = [f'[vectors.{name}]\nid = "{ids[name]}"\nalpha = {alpha}\n' for name, alpha in alphas.items()]
    repo.recipe_path.write_text("\n".join([head, f'[merge]\nmethod = "{method}"\nscale = 0.6\n', *tables]))
    return worktree_recipe(repo)


RECIPES = {
    "adapters": {"a": 1.0, "b": -0.7, "c": 0.4},
    "a sum": {"a": 0.5, "sum": 1.5},
    "one is thick": {"a": 1.0, "thick": 0.2},
    "one is whole": {"b": 1.0, "run": -0.5},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_build_is_torchs(adapted: persona.Repository, tmp_path: Path, method: str, recipe: str) -> None:
    write(adapted, method, **RECIPES[recipe])
    for where in ("cpu", "torch"):
        persona.build(adapted, tmp_path / where, device=where)
    ours, theirs = load(tmp_path / "cpu"), load(tmp_path / "torch")
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=2e-6)


def test_which_tensors_are_thin(adapted: persona.Repository) -> None:
    found = {}
    for recipe, alphas in RECIPES.items():
        outputs = adapted.prepare(write(adapted, "tsv_m", **alphas), None).plan.outputs
        ranks = {output.name.split(".")[-2]: thin_rank(output) for output in outputs if output.terms}
        found[recipe] = {name: rank for name, rank in ranks.items() if rank is not None}
    assert found == {
        "adapters": {"q_proj": 5, "up_proj": 7, "down_proj": 7}, "a sum": {"q_proj": 5, "up_proj": 7, "down_proj": 7},
        "one is thick": {}, "one is whole": {},
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_same_bytes_however_it_is_built(
    adapted: persona.Repository, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(adapted, method, **RECIPES["adapters"])
    monkeypatch.setattr(core, "GROUP", 320)
    found = set()
    for number, (block, memory) in enumerate([(1 << 18, 1 << 30), (4096, 1), (32, 1 << 20)]):
        monkeypatch.setattr(engine.run, "__kwdefaults__", {**(engine.run.__kwdefaults__ or {}), "block": block})
        persona.build(adapted, tmp_path / str(number), memory=memory)
        found.add((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert len(found) == 1


FAMILIES = {
    "Qwen3MoeForCausalLM": {"target_modules": ["q_proj", "gate"], "target_parameters": ["mlp.experts.gate_up_proj"]},
    "GPT2LMHeadModel": {"target_modules": ["c_attn", "c_fc"]},
}
"""Experts, which files have one by one, and layers that store [inputs, outputs], with their factors turned."""


@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize("kind", FAMILIES)
def test_experts_and_turned_factors(kind: str, tmp_path: Path) -> None:
    made(kind).save_pretrained(tmp_path / "base")
    persona.init(tmp_path / "work", tmp_path / "base", author="Test")
    repo = persona.open(tmp_path / "work")
    for seed, alpha in enumerate((1.0, -0.5)):
        train(made(kind), LoraConfig(r=2, **FAMILIES[kind]), tmp_path / f"v{seed}", partial(randomise, seed=seed))
        persona.commit(repo, tmp_path / f"v{seed}", name=f"v{seed}", alpha=alpha)
    for method in ("tsv_m", "wudi"):
        outputs = repo.prepare(write(repo, method, v0=1.0, v1=-0.5), None).plan.outputs
        thin = {output.name for output in outputs if thin_rank(output) == 4}
        assert any(("experts.1.up_proj" if "Moe" in kind else "mlp.c_fc") in name for name in thin)
        for where in ("cpu", "torch"):
            persona.build(repo, tmp_path / method / where, device=where)
        ours, theirs = load(tmp_path / method / "cpu"), load(tmp_path / method / "torch")
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=2e-6)
