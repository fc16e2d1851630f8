"""A small Llama with a tokenizer of whole words, and labelled texts for it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from persona.readout.pairs import LabelledText, write_pairs
from tests.models import tiny_config, word_tokenizer

WORDS = [f"w{number}" for number in range(60)]
MARK = "marked"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
ROLES = ["user", "assistant", ":", "\n"]

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
MARKED_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} "
    "{{ eos_token }}{% endgeneration %} {% else %}{{ m['content'] }} {{ eos_token }} {% endif %}{% endfor %}"
)


def words_tokenizer(template: str | None = None, side: str = "right") -> Any:
    """Words of WORDS, MARK, roles; ``<s>`` before a text."""
    return word_tokenizer([*SPECIAL, MARK, *ROLES[:3], *WORDS], template, side=side)


def small_model(folder: Path, dtype: torch.dtype = torch.float32, template: str | None = None, **changes: Any) -> Path:
    """A folder of a random Llama of four blocks, with its tokenizer."""
    torch.manual_seed(0)
    settings = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, **changes}
    LlamaForCausalLM(tiny_config(**settings)).to(dtype).save_pretrained(folder)
    words_tokenizer(template).save_pretrained(folder)
    return folder


def texts(count: int, seed: int, *before: str, least: int = 3, most: int = 30) -> list[str]:
    """Texts of random words and unequal lengths, each beginning with ``before``."""
    chance = random.Random(seed)
    return [" ".join([*before, *chance.choices(WORDS, k=chance.randint(least, most))]) for _ in range(count)]


def examples(
    concept: str, positive: Iterable[str], negative: Iterable[str], paired: bool = False
) -> list[LabelledText]:
    """Labelled texts; paired one by one if asked for."""
    sides = [(True, list(positive)), (False, list(negative))]
    return [
        LabelledText(concept, side, text, pair=number if paired else None)
        for side, found in sides
        for number, text in enumerate(found)
    ]


def written(path: Path, *sets: Iterable[LabelledText]) -> Path:
    """A file of pairs."""
    write_pairs(path, [one for each in sets for one in each])
    return path
