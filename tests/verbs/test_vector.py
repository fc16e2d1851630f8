"""``vector``: a task vector as tensors, equal to the difference of the checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

import persona
from tests.checkpoints.peft_folders import train
from tests.models import TinyModels, load, same_bits

MakeRepo = Callable[[Path], persona.Repository]


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_the_task_vector_of_an_adapter(models: TinyModels, make_repo: MakeRepo, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base("float32"))
    trained = train(base, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    repo = make_repo(models.base("float32"))
    persona.commit(repo, tmp_path / "adapter", name="a")
    for name, tau in persona.vector(repo, "a").items():
        module = trained.model.get_submodule("base_model.model." + name.removesuffix(".weight"))
        torch.testing.assert_close(tau, module.get_delta_weight("default").detach())


def test_task_vector_in_python(models: TinyModels, repo: persona.Repository) -> None:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    tau = persona.vector(repo, "a")
    base, tuned = load(models.base()), load(models.run(1))
    assert sorted(tau) == sorted(n for n in base if not same_bits(base[n], tuned[n]))
    for name, delta in tau.items():
        assert torch.equal(delta, tuned[name].float() - base[name].float())
