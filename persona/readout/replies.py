"""What a model replies, and what another model, which is not steered, makes of it.

    effect       how the replies read: mean over layers and their own tokens, in standard deviations of the readout
    perplexity   exp of the mean loss per token of the replies, the end of each included
    repetition   share of runs of three tokens that stood in the same reply before; mean over replies
    special      share of tokens that are special ones, but for the end of a reply; 1 of a reply that is nothing but its end

All are read in the model *without* steering. In the steered one the projection at the steered layer moves by what was
added, whatever is said, and the residual stream carries that on to every later layer; only the text shows an effect.
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
"""Tokens of a run that must not come again."""


@dataclass(frozen=True)
class Judged:
    """What some replies are like. ``scores`` are [replies, concepts, layers], NaN of a reply without a word."""

    scores: Float32
    perplexity: float
    repetition: float
    special: float


def prompt_tokens(live: LoadedModel, prompts: Sequence[str], max_tokens: int, *, plain: bool) -> Tokens:
    """Prompts as the model is asked them: through its chat template where it has one, unless ``plain``."""
    tokenizer = live.need_tokenizer()
    if plain or not getattr(tokenizer, "chat_template", None):
        found = tokens_of(live, prompts)
    else:
        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        found = [tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in turns]
    most = longest(live.model)
    for number, one in enumerate(found, 1):
        if most is not None and len(one) + max_tokens > most:
            raise UsageError(
                f"prompt {number} has {len(one)} tokens, which with {max_tokens} of a reply is more than {live.label} reads",
                f"It reads {most}: shorten it, or give --max-tokens.",
            )
    return found


def generate(
    live: LoadedModel, prompts: Tokens, *, max_tokens: int, temperature: float, seed: int, batch_size: int
) -> Tokens:
    """A reply to each prompt, with its end where it has one; temperature 0 is greedy. The caller's random state stays.

    What the model's own ``generation_config.json`` says counts only for where a reply ends.
    """
    import torch

    sampled: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    )
    found: Tokens = []
    cuda = [live.device] if live.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        for start in range(0, len(prompts), batch_size):
            torch.manual_seed(seed + start)  # so that one batch does not hang on how long another went on
            rows = range(start, min(start + batch_size, len(prompts)))
            batch = collate(prompts, rows, _pad(live), "left")
            found += generated(live, batch, max_tokens, **sampled)
    return found


def judge(
    live: LoadedModel, readout: Readout, prompts: Tokens, replies: Tokens, *, batch_size: int, blocks: str | None = None
) -> Judged:
    """Read replies after their prompts with a model as it is."""
    import numpy as np
    import torch

    special, ends = {*live.need_tokenizer().all_special_ids} | end_tokens(live), end_tokens(live)
    scores, losses = [], []
    for start in range(0, len(prompts), batch_size):
        rows = slice(start, start + batch_size)
        with torch.inference_mode():
            values, lost = _read(live, readout, prompts[rows], replies[rows], special, blocks)
        scores.append(values)
        losses.append(lost)
    return Judged(
        in_units(readout, np.concatenate(scores), "std"),
        math.exp(min(700.0, float(torch.cat(losses).mean()))),
        sum(map(repetition, replies)) / len(replies),
        sum(_special(reply, special, ends) for reply in replies) / len(replies),
    )


def _read(
    live: LoadedModel, readout: Readout, prompts: Tokens, replies: Tokens, special: set[int], blocks: str | None
) -> tuple[Float32, torch.Tensor]:
    """Of a batch: raw projections [replies, concepts, layers] over words of replies, and the losses of all their tokens."""
    import numpy as np
    import torch
    from torch.nn import functional

    texts = [[*prompt, *reply] for prompt, reply in zip(prompts, replies, strict=True)]
    batch = collate(texts, range(len(texts)), _pad(live))
    tokens, mask = batch.tokens.to(live.device), batch.mask.to(live.device)
    with watch(live.model, readout, blocks=blocks) as r:
        out = live.model(input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False)
    theirs = torch.zeros_like(batch.mask, dtype=torch.bool)
    for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        theirs[row, len(prompt) : len(text)] = True
    words = theirs & ~torch.isin(batch.tokens, torch.tensor(sorted(special), dtype=torch.int64))
    if pooling_of(readout) == "last":
        words &= words.int().flip(1).cumsum(1).flip(1) == 1
    weights = words.float()[:, :, None]
    values = [(r.latest[layer] * weights).sum(1) / weights.sum(1) for layer in readout.layers]  # 0 / 0 is NaN
    learnt = theirs[:, 1:].to(live.device)
    losses = functional.cross_entropy(out.logits[:, :-1][learnt].float(), tokens[:, 1:][learnt], reduction="none")
    return np.stack([one.numpy() for one in values], 2), losses.cpu()


def _pad(live: LoadedModel) -> int:
    pad = live.need_tokenizer().pad_token_id
    return int(pad) if pad is not None else min(end_tokens(live), default=0)


def repetition(reply: Sequence[int]) -> float:
    """The share of runs of ``RUN`` tokens that the reply had before."""
    runs = [tuple(reply[at : at + RUN]) for at in range(len(reply) - RUN + 1)]
    return 1 - len({*runs}) / len(runs) if runs else 0.0


def _special(reply: Sequence[int], special: set[int], ends: set[int]) -> float:
    said = reply[:-1] if reply and reply[-1] in ends else reply
    return sum(token in special for token in said) / len(said) if said else 1.0
