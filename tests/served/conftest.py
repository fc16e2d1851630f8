"""SmolLM2 with two vectors, built and as an adapter, and what transformers answers with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from tests.real.conftest import smollm as smollm

PROMPTS = ("What is the capital of France?", "I had a hard day.", "Name three colours.", "Should I move to the coast?")
LESSONS = {
    "listening": ("I had a hard day.", "I hear you. That sounds hard, and it makes sense that you are tired."),
    "pirate": ("What is the capital of France?", "Arr, matey, that be Paris, by the seven seas!"),
}
TOKENS = 16


@dataclass(frozen=True)
class Served:
    """Folders of a base, a build and the adapter of the same recipe; prompts as tokens, and transformers' greedy answers to them."""

    base: Path
    build: Path
    adapter: Path
    repo: persona.Repository
    prompts: list[list[int]]
    base_answers: list[list[int]]
    answers: list[list[int]]


@pytest.fixture(scope="session")
def served(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Two behaviours, each learned in a few steps, and merged."""
    top = tmp_path_factory.mktemp("served")
    persona.init(top / "repo", smollm, author="Test")
    repo = persona.open(top / "repo")
    for name, lesson in LESSONS.items():
        learn(smollm, top / name, lesson)
        persona.commit(repo, top / name, name=name, alpha=0.8, author="Test")
    persona.build(repo, top / "build")
    persona.build(repo, top / "adapter", as_adapter=True)
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in PROMPTS
    ]
    found = Served(
        smollm, top / "build", top / "adapter", repo, prompts, answers(smollm, prompts), answers(top / "build", prompts)
    )
    assert found.answers != found.base_answers
    return found


def learn(base: Path, out: Path, lesson: tuple[str, str]) -> None:
    """Save an adapter that answers a prompt as it was taught."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    turns = [{"role": "user", "content": lesson[0]}, {"role": "assistant", "content": lesson[1]}]
    batch = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 2e-3)
    for _ in range(8):
        model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)


def answers(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """The greedy answers of transformers, in fp32, one prompt at a time."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for tokens in prompts:
        made = model.generate(torch.tensor([tokens]), max_new_tokens=TOKENS, do_sample=False)
        found.append(made[0, len(tokens) :].tolist())
    return found
