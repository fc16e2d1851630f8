"""The Fisher diagonal against formulas, and the penalty in numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from persona.training.adapting import trainable
from persona.training.fisher import Guard, adapted, estimate
from persona.training.settings import Settings
from persona.training.tokens import Tokenized
from tests.models import tiny_llama


class Bigrams(nn.Module):
    """Logits are a row of a table: its Fisher is known. Of softmax logits z it is p(1 − p) on the diagonal."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size, size)

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return SimpleNamespace(logits=self.table(input_ids))


def test_it_is_the_true_fisher_of_a_table_of_bigrams() -> None:
    torch.manual_seed(0)
    model = Bigrams(4)
    rows = [Tokenized("", (1, 2), (False, True))] * 1500 + [Tokenized("", (3, 2), (False, True))] * 500
    found, tokens = estimate(model, rows, seed=0)
    assert tokens == 2000
    p = torch.softmax(model.table.weight.detach(), -1)
    share = torch.tensor([0.0, 0.75, 0.0, 0.25])[:, None]
    wanted = share * p * (1 - p)
    # Each entry is a mean of 2000 terms between 0 and 1: five standard errors.
    assert torch.allclose(found["table.weight"], wanted, atol=5 * 0.25 / 2000**0.5)
    assert (found["table.weight"][0] == 0).all()


def test_the_same_seed_gives_the_same_diagonal_and_leaves_the_model_alone() -> None:
    model, _ = trainable(tiny_llama(torch.float32), Settings(rank=2, targets=("q_proj", "up_proj")))
    before = {name: (one.clone(), one.requires_grad) for name, one in model.named_parameters()}
    rows = [Tokenized("", (4, 5, 6), (False, True, True))]
    one, two, other = (estimate(model, rows, seed)[0] for seed in (1, 1, 2))
    assert sorted(one) == [
        f"model.layers.{n}.{part}.weight" for n in (0, 1) for part in ("mlp.up_proj", "self_attn.q_proj")
    ]
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0])
        assert weight.requires_grad == before[name][1]


def test_the_penalty_of_an_adapter_is_on_the_full_weights() -> None:
    """λ/2 Σ F (s·B·A)², with F = 2 everywhere, λ = 3: 3 ‖s·B·A‖²."""
    model, _ = trainable(tiny_llama(torch.float32), Settings(rank=2, alpha=4, targets=("q_proj",)))
    total = 0.0
    for layer in adapted(model).values():
        nn.init.normal_(layer.lora_B["default"].weight)
        delta = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        total += float(delta.detach().square().sum())
    diagonal = {name: torch.full_like(layer.base_layer.weight, 2.0) for name, layer in adapted(model).items()}
    guard = Guard(3.0, diagonal, {}, 1, 1)
    penalty = guard.penalty(model)
    assert float(penalty.detach()) == pytest.approx(3 * total, rel=1e-5)
    torch.autograd.backward(penalty)
    assert all(layer.lora_B["default"].weight.grad is not None for layer in adapted(model).values())
    assert guard.report(model).drift == pytest.approx(2 * total, rel=1e-5)


def test_the_penalty_of_a_full_fine_tune_is_on_what_moved() -> None:
    model = nn.Linear(2, 1, bias=False)
    start = {"weight": torch.tensor([[1.0, 2.0]])}
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.5, 0.0]]))  # δ = (0.5, −2)
    guard = Guard(10.0, {"weight": torch.tensor([[4.0, 1.0]])}, start, 1, 1)
    assert float(guard.drift(model).detach()) == 4 * 0.25 + 1 * 4
    assert float(guard.penalty(model).detach()) == 25.0
