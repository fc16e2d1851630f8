"""``anchors``: a model's own answers as rows of training data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import persona
from persona.errors import Refusal, UsageError
from persona.training.anchors import NEUTRAL, read_prompts
from tests.training.conftest import speaking_base

__all__ = ["speaking_base"]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_anchors_for_other_training_loops(
    speaking_base: Path, make_repo: Callable[[Path], persona.Repository], tmp_path: Path
) -> None:
    repo, own, out = make_repo(speaking_base), tmp_path / "own.jsonl", tmp_path / "out.jsonl"
    own.write_text('{"messages": [{"role": "system", "content": "so"}, {"role": "user", "content": "hi"}]}\n')
    done = persona.anchors(repo, out, prompts=[own])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (done.prompts, done.own, done.rows) == (len(read_prompts(NEUTRAL)) + 1, 1, len(rows))
    model = AutoModelForCausalLM.from_pretrained(speaking_base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(speaking_base)
    *asked, answer = rows[0]["messages"]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    said = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    assert answer == {"role": "assistant", "content": tokenizer.decode(said, skip_special_tokens=True)}
    assert persona.train(repo, out, dry_run=True).data.used == len(rows)
    with pytest.raises(Refusal, match=r"out.jsonl already exists"):
        persona.anchors(repo, out)
    with pytest.raises(UsageError, match=r"no folder .*none"):
        persona.anchors(repo, tmp_path / "none" / "out.jsonl")
