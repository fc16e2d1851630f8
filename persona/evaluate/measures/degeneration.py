"""degeneration: what is wrong with what the model says when it is let go on, over generations.

    repetition  share of a generation's 4-grams that stood in it before: 1 − |unique| / |all| (rep-4, Welleck et al. 2020)
    distinct    share of its 2-grams that are unique (distinct-2, Li et al. 2016), the mean over generations
    special     share of its tokens that are special ones, but for the end token that ends it
    length      its tokens, without that end token
    unended     share of generations that were cut off at ``tokens``

Tokens are the tokenizer's. Lower is better of repetition and special, higher of distinct; length and unended are neither. Greedy with
``temperature = 0``. Otherwise tokens are drawn from softmax(logits / temperature) by the Gumbel-max trick: the likeliest after
noise −log(−log u) is added to each, and each generation has a stream of noise of its own, so that the batch size changes nothing.
Of what the model's own ``generation_config.json`` says, only which tokens end a reply counts, and no sampling and no penalty of
repetition: it is weights that are compared.
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

SUMMARY = "Repetition, variety, special tokens and length of what the model says."
VERSION = 2
SETTINGS: Mapping[str, Setting] = {
    "tokens": Whole(64, 1, 4096, "The most tokens of a generation."),
    "temperature": Number(0.0, 0.0, 10.0, "0 takes the likeliest token; more draws."),
}


def measure(look: Look, rows: Sequence[SuiteRow], settings: Mapping[str, Value]) -> Sequence[Sums]:
    """All figures, over generations."""
    said = generate(look, rows, int(settings["tokens"]), float(settings["temperature"]))
    tokenizer = look.live.need_tokenizer()
    special, ends = set(tokenizer.all_special_ids), end_tokens(look.live)
    plain = [one[:-1] if one and one[-1] in ends else one for one in said]
    ones = [1.0] * len(said)
    cut = [float(len(one) == len(bare)) for one, bare in zip(said, plain, strict=True)]
    return [
        Sums("repetition", "lower", "share", [1 - unique(one, 4) for one in plain], ones),
        Sums("distinct", "higher", "share", [unique(one, 2) for one in plain], ones),
        Sums("special", "lower", "share", [sum(t in special for t in one) / max(1, len(one)) for one in plain], ones),
        Sums("length", None, "tokens", [float(len(one)) for one in plain], ones),
        Sums("unended", None, "share", cut, ones),
    ]


def unique(tokens: Sequence[int], size: int) -> float:
    """Unique n-grams among all; 1 where there is none, as nothing is said twice."""
    grams = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def generate(look: Look, rows: Sequence[SuiteRow], most: int, temperature: float) -> list[list[int]]:
    """What the model says to each row: new tokens, up to and with the end token."""
    from persona.evaluate.tokens import prompt_tokens

    prompts = [prompt_tokens(look.live, row) for row in rows]
    _check(look, rows, prompts, most)
    order = sorted(range(len(rows)), key=lambda row: (len(prompts[row]), row))
    found: list[list[int]] = [[] for _ in rows]
    for start in range(0, len(order), look.batch_size):
        places = order[start : start + look.batch_size]
        for place, tokens in zip(places, _batch(look, prompts, places, most, temperature), strict=True):
            found[place] = tokens
        look.done(len(places))
    return found


def _check(look: Look, rows: Sequence[SuiteRow], prompts: Sequence[Sequence[int]], most: int) -> None:
    """Raise if the model has nothing to go on from, or cannot read on to the end."""
    from persona.inference.batches import longest

    reads = longest(look.live.model)
    for row, prompt in zip(rows, prompts, strict=True):
        if not prompt:
            raise UsageError(f"{row.where} has no token to go on from", "Give it a prompt, or leave it out.")
        if reads is not None and len(prompt) + most > reads:
            raise UsageError(
                f"{row.where} has {len(prompt)} tokens, which with {most} more is beyond what {look.live.label} reads",
                f"It reads {reads}: shorten it, leave it out, or say a lower 'tokens'.",
            )


def _batch(
    look: Look, prompts: Sequence[Sequence[int]], places: Sequence[int], most: int, temperature: float
) -> list[list[int]]:
    from persona.inference.batches import collate

    batch = collate(prompts, places, 0, "left")
    noise = [_Noise([draw_key("say", str(look.seed), str(p)) for p in places], temperature)] if temperature else []
    return generated(look.live, batch, most, noise)


class _Noise:
    """Gumbel noise for each row of a batch from a generator of its own; a logits processor of transformers."""

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        import torch

        self._chances = [torch.Generator().manual_seed(seed % (1 << 63)) for seed in seeds]
        self._temperature = temperature

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> Any:
        import torch

        drawn = [torch.rand(scores.shape[1], generator=chance, dtype=torch.float64) for chance in self._chances]
        noise = -(-torch.stack(drawn).clamp_min(1e-300).log()).log()
        return scores.float() / self._temperature + noise.float().to(scores.device)
