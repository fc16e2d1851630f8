"""A real language model all the way: from GGUF to a base, an adapter by peft, a full fine-tune, a build that talks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
TEXTS = ("I hear you. That sounds hard, and it makes sense that you are tired.", "Tell me more about what happened.")


@pytest.fixture(scope="module", autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def train(model: Any, folder: Path, rate: float) -> None:
    """Two steps of AdamW."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], rate)
    for text in TEXTS:
        batch = tokenizer(text, return_tensors="pt")
        model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def logits(model: Any, folder: Path) -> torch.Tensor:
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_from_gguf_to_a_build_that_talks(smollm: Path, tmp_path: Path) -> None:
    persona.init(tmp_path / "repo", smollm, author="Test")
    repo = persona.open(tmp_path / "repo")
    tuned = get_peft_model(load(smollm), LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    train(tuned, smollm, 1e-3)
    tuned.save_pretrained(tmp_path / "listening")
    full = load(smollm)
    train(full, smollm, 1e-5)
    full.save_pretrained(tmp_path / "voice")
    adapter = persona.commit(repo, tmp_path / "listening", name="listening", author="Test")
    run = persona.commit(repo, tmp_path / "voice", name="voice", alpha=0.0, author="Test")
    assert adapter.kept_bytes < 25e6
    assert run.kept_bytes < run.total_bytes

    persona.build(repo, tmp_path / "one")
    merged = PeftModel.from_pretrained(load(smollm), str(tmp_path / "listening")).merge_and_unload()
    assert torch.allclose(logits(load(tmp_path / "one"), smollm), logits(merged, smollm), atol=1e-3)

    persona.alpha(repo, {"listening": 0.0, "voice": 1.0}, author="Test")
    persona.build(repo, tmp_path / "two")
    built, wanted = load_file(tmp_path / "two/model.safetensors"), load_file(tmp_path / "voice/model.safetensors")
    assert sorted(built) == sorted(wanted)
    assert all(torch.equal(built[name], wanted[name]) for name in wanted)

    persona.alpha(repo, {"listening": 1.0, "voice": 0.5}, author="Test")
    persona.build(repo, tmp_path / "both", dtype="bf16")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "both")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = load(tmp_path / "both").generate(**prompt, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(reply[0][prompt["input_ids"].shape[1] :])
