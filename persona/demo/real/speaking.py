"""Replies of a chat model to prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

TOKENS = 48
"""Maximum number of new tokens of a reply."""


def replies_of(live: LoadedModel, prompts: Sequence[str], batch_size: int = 16) -> list[str]:
    """What a model replies to each prompt, by greedy decoding."""
    from persona.inference.batches import batches
    from persona.inference.generating import end_tokens, generated

    tokenizer, ends = live.need_tokenizer(), end_tokens(live)
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        for prompt in prompts
    ]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    replies = [""] * len(prompts)
    for batch in batches(encoded, batch_size, side="left"):
        for row, tokens in zip(batch.rows, generated(live, batch, TOKENS), strict=True):
            replies[row] = tokenizer.decode([token for token in tokens if token not in ends]).strip()
    return replies
