"""A model in memory is the one that transformers loads from a build, and its memory can be freed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import persona
from tests.models import TinyModels

TOKENS = torch.arange(3, 15).reshape(2, 6)


@pytest.fixture
def work(repo: persona.Repository, models: TinyModels) -> persona.Repository:
    persona.commit(repo, models.run(1), name="a", alpha=0.5)
    return repo


@torch.inference_mode()
def test_it_is_the_model_of_a_build(work: persona.Repository, tmp_path: Path, models: TinyModels) -> None:
    persona.build(work, tmp_path / "built")
    for rev, folder in ((None, tmp_path / "built"), ("main", tmp_path / "built"), ("base", models.base()),
                        (tmp_path / "built", tmp_path / "built")):  # fmt: skip
        wanted = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")(TOKENS).logits
        model, tokenizer = persona.load(work, rev)
        assert torch.equal(model(TOKENS).logits, wanted), rev
        assert model.dtype is torch.bfloat16
        assert tokenizer is None
    single = persona.load(work, "a", dtype="fp32")
    assert single.model.dtype is torch.float32
    assert repr(single).startswith("Model('a (")


def test_its_memory_is_freed(work: persona.Repository) -> None:
    with persona.load(work, "HEAD") as loaded:
        model, _ = loaded
        assert loaded.commit == work.head()
    assert loaded.model is None
    assert repr(loaded).endswith("freed)")
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}
    loaded.free()  # once more does nothing


def test_a_branch_that_is_called_base(work: persona.Repository) -> None:
    work_head = work.head()
    persona.branch(work, "base")
    assert persona.load(work, "base").commit == work_head
    with pytest.raises(persona.PersonaError, match="'bsae' is not a revision"):
        persona.load(work, "bsae")
