"""A tokenizer whose tokens are words, so that what is learnt can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import models
from tests.models import tiny_llama

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "U",
    "A",
    "S",
    "hi",
    "there",
    "yes",
    "no",
    "good",
    "day",
    "ok",
    "hey",
    "are",
    "we",
    "on",
    "yeah",
    "sure",
    "see",
    "you",
    "so",
    "I",
    "was",
    "thinking",
    "[RIYA]",
    "[FRIEND]",
    "one",
    "two",
    "three",
    "four",
    "five",
]
PLAIN = "{% for m in messages %}{{ {'user': 'U', 'assistant': 'A', 'system': 'S'}[m.role] }} {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}A {% endif %}"
TELLING = "{% for m in messages %}{% if m.role == 'assistant' %}A {% generation %}{{ m.content }} </s> {% endgeneration %}{% else %}U {{ m.content }} {% endif %}{% endfor %}"
FORGETFUL = "{% for m in messages %}{% if loop.last %}A {{ m.content }} </s> {% else %}U ok {% endif %}{% endfor %}"


def word_tokenizer(template: str | None = PLAIN) -> Any:
    return models.word_tokenizer(WORDS, template, opens=False)


@pytest.fixture
def words() -> Any:
    return word_tokenizer()


@pytest.fixture(scope="session")
def speaking_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with that tokenizer beside it."""
    folder = tmp_path_factory.mktemp("speaking") / "base"
    tiny_llama(torch.float32).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder
