"""Replies of a chat model to prompts, and whether they are of the kind that their prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from persona.demo.real.talk import BEHAVIOURS

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


def fits(live: LoadedModel, rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, list[float]]:
    """The measure of the suite `kinds`: 1 for each reply that is of the kind its row names, else 0."""
    replies = replies_of(live, [row["prompt"] for row in rows])
    met = [BEHAVIOURS[row["kind"]].rule.met(reply) for row, reply in zip(rows, replies, strict=True)]
    return {"replies": [float(one) for one in met]}
