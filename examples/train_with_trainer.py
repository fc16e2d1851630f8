"""Train with transformers' own Trainer, and let the run commit itself.

    persona init --base models/base
    python examples/train_with_trainer.py data.jsonl runs/voice --as voice

Run it in a repository. Data is JSONL with "prompt" and "completion" (``examples/evals/listening.jsonl`` has that form). LoRA is trained
on the base that the recipe names, which is built first; the commit says what was trained, on what, with which arguments
and losses. All that persona adds to a script of one's own is the callback: nothing that goes wrong there ends a run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from transformers.utils import logging

import persona
from persona.integrations import PersonaCallback

Row = dict[str, list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an adapter with a Trainer that commits it.")
    parser.add_argument("data", type=Path, help='JSONL with "prompt" and "completion"')
    parser.add_argument("out", type=Path, help="the run's folder")
    parser.add_argument("--as", dest="name", help="what the recipe calls the vector; the folder's name otherwise")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--repo", default=".", help="the repository")
    args = parser.parse_args()
    logging.disable_progress_bar()
    try:
        done = train(persona.open(args.repo), args.data, args.out, args.name, args.epochs)
    except persona.PersonaError as error:
        sys.exit(f"{error.message}\n{error.hint}")
    sys.exit(done.problem or 0)


def train(repo: persona.Repository, data: Path, out: Path, name: str | None, epochs: float) -> PersonaCallback:
    callback = PersonaCallback(name, repo=repo.root, data=[data])
    with tempfile.TemporaryDirectory() as folder:
        base = base_of(repo, Path(folder) / "base")
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    factors = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [tokens(tokenizer, json.loads(line)) for line in data.read_text().splitlines() if line]
    trainer = Trainer(
        model=get_peft_model(model, factors),
        args=TrainingArguments(
            output_dir=str(out), num_train_epochs=epochs, per_device_train_batch_size=8, learning_rate=1e-3,
            save_strategy="epoch", save_total_limit=1, logging_steps=1, report_to=[], disable_tqdm=True, seed=0,
        ),
        train_dataset=rows,
        data_collator=lambda batch: padded(batch, tokenizer.pad_token_id or 0),
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    if callback.committed and callback.committed.recorded:
        print(f"commit {callback.committed.recorded.commit.short}: {callback.committed.recorded.message}")
    return callback


def base_of(repo: persona.Repository, folder: Path) -> Path:
    """The base as it was when the repository began: its first commit has no vector yet."""
    persona.build(repo, folder, persona.log(repo)[-1].commit)
    return folder


def tokens(tokenizer: AutoTokenizer, row: dict[str, str]) -> Row:
    """Of a prompt and its completion, what is read, and what is learnt of it."""
    asked = tokenizer(row["prompt"])["input_ids"]
    said = tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return {"input_ids": asked + said, "labels": [-100] * len(asked) + said}


def padded(batch: list[Row], pad: int) -> dict[str, torch.Tensor]:
    """Rows of one length: int64 [rows, tokens]."""
    longest = max(len(row["input_ids"]) for row in batch)

    def filled(key: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[key] + [filler] * (longest - len(row[key])) for row in batch])

    return {
        "input_ids": filled("input_ids", pad),
        "labels": filled("labels", -100),
        "attention_mask": torch.tensor(
            [[1] * len(row["labels"]) + [0] * (longest - len(row["labels"])) for row in batch]
        ),
    }


if __name__ == "__main__":
    main()
