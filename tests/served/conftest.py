"""SmolLM2 with two LoRA vectors of unequal ranks, as a build and as an adapter, and what transformers says of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from tests.models import on_one_thread
from tests.real.conftest import smollm as smollm

COUNT = 16
QUESTIONS = (
    "What is the capital of France?",
    "I had a long day.",
    "Tell me about bees.",
    "Write a line about the sea.",
)


@dataclass(frozen=True)
class Answers:
    """Greedy replies, and the logits after each prompt."""

    tokens: list[list[int]]
    logits: np.ndarray


@dataclass(frozen=True)
class Served:
    """A build and the same recipe as an adapter."""

    base: Path
    build: Path
    adapter: Path
    prompts: list[list[int]]

    def load(self, folder: Path | None = None) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder or self.build, dtype=torch.float32).eval()

    def answers(self, model: Any) -> Answers:
        tokens, logits = [], []
        for prompt in self.prompts:
            told, given, cache = [], torch.tensor([prompt]), None
            while len(told) < COUNT:  # an end of text is a token like the others
                with torch.no_grad():
                    out = model(given, past_key_values=cache, use_cache=True)
                cache, last = out.past_key_values, out.logits[0, -1]
                if not told:
                    logits.append(last.numpy())
                told.append(int(last.argmax()))
                given = torch.tensor([told[-1:]])
            tokens.append(told)
        return Answers(tokens, np.array(logits))


def _adapter(base: Path, folder: Path, rank: int, targets: str | list[str]) -> Path:
    torch.manual_seed(rank)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=rank, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0.0, 0.01)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """α 1 of a vector for all modules, and −0.5 of one for some: only some modules have factors of both."""
    if not (request.config.getoption("--vllm-python") or request.config.getoption("--llama-python")):
        pytest.skip("needs --vllm-python or --llama-python, and --real")
    smollm = request.getfixturevalue("smollm")
    root = tmp_path_factory.mktemp("served")
    persona.init(root / "repo", smollm, author="Test <test@example.org>")
    repo = persona.open(root / "repo")
    persona.commit(repo, _adapter(smollm, root / "all", 8, "all-linear"), name="all")
    persona.commit(repo, _adapter(smollm, root / "some", 4, ["q_proj", "v_proj"]), name="some", alpha=-0.5)
    persona.build(repo, root / "build")
    persona.build(repo, root / "adapter", as_adapter=True)
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for text in QUESTIONS
    ]
    return Served(smollm, root / "build", root / "adapter", prompts)


@pytest.fixture(scope="session")
def said(served: Served) -> Answers:
    """What transformers says with the build."""
    with on_one_thread():
        said, base = served.answers(served.load()), served.answers(served.load(served.base))
    assert said.tokens != base.tokens  # otherwise, nothing shows that the vectors are there
    return said


def ask(python: str, script: str, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run one of the scripts of this folder in another environment."""
    question, answer = folder / "request.json", folder / "answer.json"
    question.write_text(json.dumps({"count": COUNT, **request}))
    run([python, str(Path(__file__).with_name(script)), str(question), str(answer)])
    told: dict[str, Any] = json.loads(answer.read_text())
    return told


def run(command: Sequence[str]) -> None:
    """Run a program, and show its output only if it fails."""
    # vLLM's worker dies where it may not choose its cores
    vllm = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **vllm}
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"


def needed(request: pytest.FixtureRequest, option: str, what: str) -> str:
    """The value of an option, without which the test is skipped."""
    value = request.config.getoption(option)
    if not value:
        pytest.skip(f"needs {option}, {what}, and --real")
    return str(Path(value).absolute())
