"""Generate replies and judge them with the model without steering.

    effect       projection of the replies: mean over layers and reply tokens, in standard deviations of the readout; without
                 attention sinks, if the readout was trained without them
    perplexity   exp of the mean loss per reply token, including end tokens
    repetition   share of 3-grams that occur earlier in the same reply; mean over replies
    special      share of special tokens, not counting the end token; 1 for an empty reply

Replies are judged *without* steering, because with it the projection moves by the added amount whatever the text says,
at the steered layer and all later ones. Only the text shows a real effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.batches import collate, longest, positions, tokens_of
from persona.inference.generating import end_tokens, generated
from persona.readout.model import Readout
from persona.readout.score import in_units, pooling_of
from persona.readout.watching import watch

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel

Tokens = list[list[int]]

RUN = 3
"""Number of tokens in an n-gram that counts as repetition."""


@dataclass(frozen=True)
class Judged:
    """Measures of some replies. `scores` are [replies, concepts, layers], NaN for a reply without text."""

    scores: Float32
    perplexity: float
    repetition: float
    special: float


def prompt_tokens(loaded: LoadedModel, prompts: Sequence[str], max_tokens: int, *, plain: bool) -> Tokens:
    """Tokenize prompts, with the chat template if the model has one.

    Args:
        max_tokens: Maximum number of tokens per reply, for which the context must have room.
        plain: Do not use the chat template.

    Raises:
        UsageError: a prompt and its reply exceed the model's context.
    """
    tokenizer = loaded.need_tokenizer()
    if plain or not getattr(tokenizer, "chat_template", None):
        encoded = tokens_of(loaded, prompts)
    else:
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        encoded = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False) for turn in turns]
    most = longest(loaded.model)
    for number, tokens in enumerate(encoded, 1):
        if most is not None and len(tokens) + max_tokens > most:
            raise UsageError(
                f"prompt {number} ({len(tokens)} tokens) and a reply of {max_tokens} tokens exceed the context of "
                f"{loaded.label}, {most} tokens",
                "Shorten the prompt, or lower --max-tokens.",
            )
    return encoded


def generate(
    loaded: LoadedModel, prompts: Tokens, *, max_tokens: int, temperature: float, seed: int, batch_size: int
) -> Tokens:
    """Generate a reply to each prompt, including its end token; the caller's random state is kept.

    `generation_config.json` of the model is used for its end tokens only.

    Args:
        max_tokens: Maximum number of new tokens per reply.
        temperature: Sampling temperature; 0 means greedy decoding.
    """
    import torch

    sampled: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    )
    replies: Tokens = []
    cuda = [loaded.device] if loaded.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        for start in range(0, len(prompts), batch_size):
            torch.manual_seed(seed + start)  # so that a batch does not depend on the length of the one before
            rows = range(start, min(start + batch_size, len(prompts)))
            batch = collate(prompts, rows, _pad(loaded), "left")
            replies += generated(loaded, batch, max_tokens, **sampled)
    return replies


def judge(
    loaded: LoadedModel,
    readout: Readout,
    prompts: Tokens,
    replies: Tokens,
    *,
    batch_size: int,
    blocks: str | None = None,
) -> Judged:
    """Judge replies, each after its prompt, with a model that is not steered."""
    import numpy as np
    import torch

    special, ends = {*loaded.need_tokenizer().all_special_ids} | end_tokens(loaded), end_tokens(loaded)
    scores, losses = [], []
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        with torch.inference_mode():
            values, lost = _read(loaded, readout, prompts[rows], replies[rows], special, blocks)
        scores.append(values)
        losses.append(lost)
    return Judged(
        in_units(readout, np.concatenate(scores), "std"),
        math.exp(min(700.0, float(torch.cat(losses).mean()))),
        sum(map(repetition, replies)) / len(replies),
        sum(_special(reply, special, ends) for reply in replies) / len(replies),
    )


def _read(
    loaded: LoadedModel, readout: Readout, prompts: Tokens, replies: Tokens, special: set[int], blocks: str | None
) -> tuple[Float32, torch.Tensor]:
    """Raw projections [replies, concepts, layers] over non-special reply tokens, and the losses of all reply tokens."""
    import numpy as np
    import torch
    from torch.nn import functional

    texts = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
    batch = collate(texts, range(len(texts)), _pad(loaded))
    tokens, mask = batch.tokens.to(loaded.device), batch.mask.to(loaded.device)
    with watch(loaded.model, readout, blocks=blocks) as r:
        out = loaded.model(input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    theirs = torch.zeros_like(batch.mask, dtype=torch.bool)
    for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        theirs[row, len(prompt) : len(text)] = True
    words = theirs & ~torch.isin(batch.tokens, torch.tensor(sorted(special), dtype=torch.int64))
    values = []
    for layer, averaged in r.averaged.items():
        said = words & averaged
        if pooling_of(readout) == "last":
            said &= said.int().flip(1).cumsum(1).flip(1) == 1
        weights = said.float()[:, :, None]
        values.append((r.latest[layer] * weights).sum(1) / weights.sum(1))  # 0 / 0 is NaN
    learnt = theirs[:, 1:].to(loaded.device)
    losses = functional.cross_entropy(out.logits[:, :-1][learnt].float(), tokens[:, 1:][learnt], reduction="none")
    return np.stack([value.numpy() for value in values], 2), losses.cpu()


def _pad(loaded: LoadedModel) -> int:
    pad = loaded.need_tokenizer().pad_token_id
    return int(pad) if pad is not None else min(end_tokens(loaded), default=0)


def repetition(reply: Sequence[int]) -> float:
    """Share of n-grams of `RUN` tokens that occur earlier in the reply."""
    runs = [tuple(reply[at : at + RUN]) for at in range(len(reply) - RUN + 1)]
    return 1 - len({*runs}) / len(runs) if runs else 0.0


def _special(reply: Sequence[int], special: set[int], ends: set[int]) -> float:
    text = reply[:-1] if reply and reply[-1] in ends else reply
    return sum(token in special for token in text) / len(text) if text else 1.0
