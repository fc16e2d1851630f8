"""What a real Trainer leaves behind is a run."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import persona
from tests.models import VOCAB, TinyModels, assert_same, load

pytestmark = pytest.mark.filterwarnings("ignore")  # the Trainer's own, of which it has many


class Tokens(Dataset[dict[str, torch.Tensor]]):
    """Rows of random tokens."""

    def __init__(self) -> None:
        self.rows = torch.randint(0, VOCAB, (16, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def fit(model: torch.nn.Module, folder: Path) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=4, save_steps=2, per_device_train_batch_size=4, learning_rate=1e-3,
        report_to=[], use_cpu=True, logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False, seed=0,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=Tokens())
    trainer.train()
    return trainer


def test_a_full_fine_tune_by_the_trainer(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    trainer = fit(AutoModelForCausalLM.from_pretrained(models.base(), dtype=torch.bfloat16), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-4" / "optimizer.pt").exists()
    newest = persona.commit(repo, tmp_path / "run", name="trained")
    assert newest.form == "dense"
    run = repo.commit(repo.head()).run
    assert run["trainer"]["global_step"] == 4
    assert run["history"]["loss"]["count"] == 4
    assert (run["arguments"]["learning_rate"], run["arguments"]["optim"][:5]) == (1e-3, "adamw")
    assert run["versions"]["transformers"] == transformers.__version__
    persona.build(repo, tmp_path / "out")
    assert_same(load(tmp_path / "out"), load(tmp_path / "run" / "checkpoint-4"))
    trainer.save_model(tmp_path / "run")
    assert persona.commit(repo, tmp_path / "run", name="trained").recorded is None


def test_an_adapter_by_the_trainer(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base(), dtype=torch.bfloat16)
    fit(get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])), tmp_path / "run")
    done = persona.commit(repo, tmp_path / "run", name="trained")
    assert done.form == "lora"
    assert done.tensors == 2
    run = repo.commit(repo.head()).run
    assert (run["adapter"]["r"], run["adapter"]["target_modules"]) == (2, ["q_proj"])
    assert run["versions"]["peft"] == peft.__version__
    persona.build(repo, tmp_path / "out")
    changed = {
        name for name, tensor in load(tmp_path / "out").items() if not torch.equal(tensor, load(models.base())[name])
    }
    assert changed == {f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1)}
