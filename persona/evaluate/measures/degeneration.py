"""degeneration: repetition, variety, special tokens and length of the model's continuations.

    repetition  share of a continuation's 4-grams that occurred in it before: 1 − |unique| / |all| (rep-4, Welleck et al. 2020)
    distinct    share of its 2-grams that are unique (distinct-2, Li et al. 2016), the mean over continuations
    special     share of its tokens that are special tokens, not counting the end token that ends it
    length      number of its tokens, without that end token
    unended     share of continuations that were cut off at ``tokens``

Tokens are the tokenizer's. Lower repetition and special are better, and higher distinct; length and unended have no better direction.
Decoding is greedy with ``temperature = 0``. Otherwise tokens are drawn from softmax(logits / temperature) by the Gumbel-max trick: noise
−log(−log u) is added to the logits, and the largest wins. Each continuation has its own stream of noise, so that the batch size does not
matter. Of the model's ``generation_config.json`` only the end tokens are used, not its sampling or repetition penalties, because weights
are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.evaluate.measures import Look, Setting, Sums
from persona.ids import draw_key
from persona.inference.generating import end_tokens, generated
from persona.methods.parts.parameters import Number, Whole

if TYPE_CHECKING:
    import torch

    from persona.evaluate.rows import SuiteRow
    from persona.methods.parts.parameters import Value

SUMMARY = "Repetition, variety, special tokens and length of what the model generates."
VERSION = 3
SETTINGS: Mapping[str, Setting] = {
    "tokens": Whole(64, 1, 4096, "Maximum number of new tokens per continuation."),
    "temperature": Number(0.0, 0.0, 10.0, "Sampling temperature; 0 means greedy decoding."),
}


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """All numbers, over continuations."""
    replies = generate(look, rows, int(settings["tokens"]), float(settings["temperature"]))
    tokenizer = look.live.need_tokenizer()
    special, ends = set(tokenizer.all_special_ids), end_tokens(look.live)
    plain = [reply[:-1] if reply and reply[-1] in ends else reply for reply in replies]
    odd = [sum(token in special for token in reply) / max(1, len(reply)) for reply in plain]
    ones = [1.0] * len(plain)
    cut = [float(len(reply) == len(bare)) for reply, bare in zip(replies, plain, strict=True)]
    return [
        Sums("repetition", "lower", "share", [1 - unique(reply, 4) for reply in plain], ones),
        Sums("distinct", "higher", "share", [unique(reply, 2) for reply in plain], ones),
        Sums("special", "lower", "share", odd, ones),
        Sums("length", None, "tokens", [float(len(reply)) for reply in plain], ones),
        Sums("unended", None, "share", cut, ones),
    ]


def unique(tokens: Sequence[int], size: int) -> float:
    """The share of n-grams that are unique; 1 if there are none, as nothing is repeated."""
    grams = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def generate(look: Look, rows: Sequence[SuiteRow], most: int, temperature: float) -> list[list[int]]:
    """Generate a continuation of each row: new tokens, including the end token.

    Args:
        look: The model, its seed and batch size.
        rows: What to continue.
        most: Maximum number of new tokens.
        temperature: 0 for greedy decoding.

    Raises:
        UsageError: a row has no tokens, or would exceed the model's context.
    """
    from persona.evaluate.tokens import prompt_tokens

    prompts = [prompt_tokens(look.live, row) for row in rows]
    _check(look, rows, prompts, most)
    order = sorted(range(len(rows)), key=lambda row: (len(prompts[row]), row))
    replies: list[list[int]] = [[] for _ in rows]
    for start in range(0, len(order), look.batch_size):
        places = order[start : start + look.batch_size]
        for place, tokens in zip(places, _batch(look, prompts, places, most, temperature), strict=True):
            replies[place] = tokens
        look.done(len(places))
    return replies


def _check(look: Look, rows: Sequence[SuiteRow], prompts: Sequence[Sequence[int]], most: int) -> None:
    """Raise if a prompt is empty, or too long for the model's context."""
    from persona.inference.batches import longest

    reads = longest(look.live.model)
    for row, prompt in zip(rows, prompts, strict=True):
        if not prompt:
            raise UsageError(f"{row.where} has no tokens to continue", "Add a prompt, or remove it.")
        if reads is not None and len(prompt) + most > reads:
            raise UsageError(
                f"{row.where} has {len(prompt)} tokens; {most} more exceed the context of {look.live.label} ({reads})",
                "Shorten it, remove it, or lower 'tokens'.",
            )


def _batch(
    look: Look, prompts: Sequence[Sequence[int]], places: Sequence[int], most: int, temperature: float
) -> list[list[int]]:
    from persona.inference.batches import collate

    batch = collate(prompts, places, 0, "left")
    noise = [_Noise([draw_key("say", str(look.seed), str(p)) for p in places], temperature)] if temperature else []
    return generated(look.live, batch, most, noise)


class _Noise:
    """A transformers logits processor that adds Gumbel noise, from one generator per row of the batch."""

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(seed % (1 << 63)) for seed in seeds]
        self._temperature = temperature

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> Any:
        import torch

        drawn = [torch.rand(scores.shape[1], generator=each, dtype=torch.float64) for each in self._generators]
        noise = -(-torch.stack(drawn).clamp_min(1e-300).log()).log()
        return scores.float() / self._temperature + noise.float().to(scores.device)
