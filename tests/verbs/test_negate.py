"""``negate`` turns a vector round, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

import persona
from persona.errors import UsageError
from tests.checkpoints.peft_folders import train
from tests.models import TinyModels, assert_same, load, same_bits


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
def test_a_negated_adapter_and_back(models: TinyModels, repo: persona.Repository, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models.base())
    train(base, LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "adapter")
    persona.commit(repo, tmp_path / "adapter", name="a")
    persona.build(repo, tmp_path / "with")
    persona.negate(repo, "a")
    persona.build(repo, tmp_path / "without")
    persona.negate(repo, "a")
    persona.build(repo, tmp_path / "again")
    assert_same(load(tmp_path / "again"), load(tmp_path / "with"))
    q = "model.layers.0.self_attn.q_proj.weight"
    w, plus, minus = (load(f)[q] for f in (models.base(), tmp_path / "with", tmp_path / "without"))
    assert not same_bits(plus, minus)
    assert torch.dot((plus - w).flatten().float(), (minus - w).flatten().float()) < 0


def test_the_alpha_changes_its_sign_or_is_minus_what_is_asked_for(half: persona.Repository) -> None:
    assert persona.negate(half, "a").message == "negate a (α -0.5)"
    assert persona.negate(half, "a").message == "negate a (α 0.5)"
    persona.negate(half, "a", alpha=0.25)
    assert [entry.alpha for entry in half.recipe(half.head()).vectors] == [-0.25]


def test_a_vector_that_is_not_there(added: persona.Repository) -> None:
    before = added.refs()
    with pytest.raises(UsageError, match="no vector 'ab' in the recipe") as caught:
        persona.negate(added, "ab")
    assert caught.value.hint == "Did you mean 'a'?"
    assert added.refs() == before
