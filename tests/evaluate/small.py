"""A small Llama with a tokenizer of whole words, its fine-tunes, and suites for them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from persona.inference.load import LoadedModel
from persona.readout.model import Readout
from persona.readout.score import of_tokens
from tests.models import nudge, tiny_config, word_tokenizer

WORDS = [f"w{number}" for number in range(40)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
TEMPLATE = (
    "{{ bos_token }} {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def tokenizer(side: str = "right", template: str | None = TEMPLATE) -> Any:
    """Words of WORDS and roles; ``<s>`` before a text."""
    return word_tokenizer([*SPECIAL, "user", "assistant", ":", *WORDS], template, side=side)


def vocabulary() -> int:
    return len(tokenizer())


def model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings = {"vocab_size": vocabulary(), "tie_word_embeddings": False, **changes}
    return LlamaForCausalLM(tiny_config(**settings)).to(dtype).eval().requires_grad_(False)


def live(made: Any = None, side: str = "right", label: str = "model") -> LoadedModel:
    return LoadedModel(made if made is not None else model(), tokenizer(side), label)


def flat(value: float = 0.0) -> Any:
    """A model that finds every token as likely as any other: its head is zero."""
    made = model()
    made.lm_head.weight.fill_(value)
    return made


def save(folder: Path, made: Any) -> Path:
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def base_folder(folder: Path, **changes: Any) -> Path:
    return folder if folder.exists() else save(folder, model(**changes))


def tuned_folder(folder: Path, base: Path, seed: int, std: float = 4e-3, only: str = "") -> Path:
    """A fine-tune of ``base``, moved at random."""
    if folder.exists():
        return folder
    made = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    return save(folder, nudge(made, seed, std, only))


def trained_folder(folder: Path, base: Path, rows: list[dict[str, Any]], rate: float, ends: bool = True) -> Path:
    """A fine-tune of ``base`` on prompts and completions, by the loss of the completions; forty steps, one text each."""
    if folder.exists():
        return folder
    made, words = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tokenizer()
    asked = [len(words(row["prompt"])["input_ids"]) for row in rows]
    texts = [words(f"{row['prompt']}{row['completion']}")["input_ids"] + ([2] if ends else []) for row in rows]
    optimizer = torch.optim.AdamW(made.parameters(), lr=rate)
    for step in range(40):
        text = torch.tensor([texts[step % len(texts)]])
        labels = text.clone()
        labels[0, : asked[step % len(texts)]] = -100
        made(text, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return save(folder, made)


@dataclass(frozen=True)
class Reads:
    """A readout at its first layer, as a measure is handed one."""

    readout: Readout
    answers: bool = False
    id: str = "a readout"

    @property
    def concepts(self) -> tuple[str, ...]:
        return self.readout.concepts

    def project(
        self,
        live: LoadedModel,
        tokens: Sequence[Sequence[int]],
        marks: Sequence[Sequence[bool]],
        batch_size: int,
        done: Callable[[int], None],
    ) -> Any:
        counting = marks if self.answers else None
        return of_tokens(live, self.readout, tokens, counting, batch_size=batch_size, done=done)[:, :, 0]


def texts(count: int, seed: int, least: int = 3, most: int = 20) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(least, most))) for _ in range(count)]


def lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def dialogues(count: int, seed: int) -> list[dict[str, Any]]:
    """Prompts and completions: the completion says the prompt's last word again, and then w1."""
    return [{"prompt": text, "completion": f" {text.split()[-1]} w1"} for text in texts(count, seed)]


def suite(root: Path, name: str = "calm", text: str | None = None) -> Path:
    """A suite of every kind of measure but one's own, below ``root``."""
    folder = root / "evals"
    lines(folder / "answers.jsonl", dialogues(12, 1))
    lines(folder / "neutral.jsonl", [{"text": text} for text in texts(8, 2)])
    path = folder / f"{name}.toml"
    path.write_text(text if text is not None else SUITE)
    return path


SUITE = """\
summary = "Is it still what it was?"

[[measures]]
kind = "loss"
name = "answers"
data = "answers.jsonl"

[[measures]]
kind = "divergence"
data = "neutral.jsonl"

[[measures]]
kind = "forgetting"
data = "neutral.jsonl"
window = 16

[[measures]]
kind = "degeneration"
data = "answers.jsonl"
tokens = 12
"""
