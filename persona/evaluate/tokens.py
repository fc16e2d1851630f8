"""Turn examples into tokens, and compute a model's logits on their answers.

Batches are padded on the right and sorted by length, so that causal attention never sees padding: except for rounding, results depend
neither on the batch size nor on the tokenizer's padding side. Where the model supports it, only the logits of answers are computed, and
a batch of several examples never has more than ``LOGITS`` bytes of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.evaluate.rows import SuiteRow
from persona.inference.batches import collate, longest
from persona.inference.fitting import fitted
from persona.inference.messages import ASSISTANT
from persona.inference.turns import Messages, rendered

if TYPE_CHECKING:
    import torch

    from persona.evaluate.measures import Look
    from persona.inference.load import LoadedModel

LOGITS = 64 << 20
"""Largest number of bytes of logits per batch."""

CHUNK = 64
"""Number of tokens whose logits are held in fp32 at a time."""


@dataclass(frozen=True)
class EncodedExample:
    """An example in tokens. Those from ``answer_at`` (at least 1) on are the answer, each predicted from all before it."""

    tokens: tuple[int, ...]
    answer_at: int

    @property
    def answers(self) -> int:
        """Number of tokens in the answer."""
        return len(self.tokens) - self.answer_at


def encode(live: LoadedModel, rows: Sequence[SuiteRow]) -> list[EncodedExample]:
    """Turn examples with answers into tokens.

    Special tokens are those of the tokenizer or its chat template. An end token follows each answer, because where an answer
    ends is part of it.

    Raises:
        UsageError: an example has no answer, or is longer than the model's context.
    """
    examples = [_encoded(live, row) for row in rows]
    most = longest(live.model)
    for row, example in zip(rows, examples, strict=True):
        if example.answers < 1:
            raise UsageError(f"{row.where} has no token to predict", "Use a longer text, or remove it.")
        if most is not None and len(example.tokens) > most:
            raise UsageError(
                f"{row.where} has {len(example.tokens)} tokens, but the context of {live.label} is {most}",
                "Shorten it, or remove it.",
            )
    return examples


def _encoded(live: LoadedModel, row: SuiteRow) -> EncodedExample:
    if row.text is not None:
        return EncodedExample(tuple(ids(live, row.text)), 1)
    if row.messages:
        return _of_messages(live, row)
    if row.completion is None:
        raise UsageError(f"{row.where} has no 'completion' to measure", "Add one.")
    end = live.need_tokenizer().eos_token_id
    whole = ids(live, f"{row.prompt}{row.completion}")
    whole = whole if end is None or whole[-1:] == [end] else [*whole, end]
    return EncodedExample(tuple(whole), _parted(ids(live, row.prompt or ""), whole))


def _of_messages(live: LoadedModel, row: SuiteRow) -> EncodedExample:
    if row.messages[-1]["role"] != ASSISTANT or len(row.messages) < 2:
        raise UsageError(
            f"{row.where}: the last message is not a reply of the assistant to another one",
            'End with {"role": "assistant", "content": "…"}.',
        )
    messages = messages_of(live, row)
    asked = _templated(live, row, messages[:-1], asks=True)
    whole = _templated(live, row, messages, asks=False)
    return EncodedExample(tuple(whole), _parted(asked, whole))


def _parted(asked: Sequence[int], whole: Sequence[int]) -> int:
    """Where the answer begins: the first token that differs from those of the prompt alone.

    Unlike :mod:`persona.inference.turns`, which finds the assistant's tokens, this counts everything that follows the exact prompt
    that the model would answer (:func:`prompt_tokens`), whether or not the template marks it with ``{% generation %}``.
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, whole, strict=False)))
    return max(1, same)


def prompt_tokens(live: LoadedModel, row: SuiteRow) -> list[int]:
    """The tokens for a model to continue: the prompt, the messages before the assistant's last one, or the text."""
    if row.messages:
        messages = messages_of(live, row)
        asked = messages[:-1] if messages[-1]["role"] == ASSISTANT else messages
        return _templated(live, row, asked, asks=True)
    text = row.prompt if row.prompt is not None else row.text or ""
    tokens, end = ids(live, text), live.need_tokenizer().eos_token_id
    return tokens[:-1] if tokens[-1:] == [end] and len(tokens) > 1 else tokens


def ids(live: LoadedModel, text: str) -> list[int]:
    """A text in tokens, with the tokenizer's special tokens around it."""
    tokens: list[int] = live.need_tokenizer()(text, add_special_tokens=True, truncation=False, verbose=False)[
        "input_ids"
    ]
    return tokens


def _templated(live: LoadedModel, row: SuiteRow, messages: Messages, *, asks: bool) -> list[int]:
    text = written(live, row, messages, asks=asks)
    tokens: list[int] = live.need_tokenizer()(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tokens


def messages_of(live: LoadedModel, row: SuiteRow) -> Messages:
    """The messages of a row as the model's chat template takes them.

    Raises:
        UsageError: the tokenizer has no chat template, or it leaves out tool calls.
    """
    tokenizer = live.need_tokenizer()
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"{row.where} has messages, but the tokenizer of {live.label} has no chat template",
            "Use prompt and completion instead, or add a template to the base's tokenizer.",
        )
    return fitted(tokenizer, row.messages, row.tools, row.where)


def written(live: LoadedModel, row: SuiteRow, messages: Messages, *, asks: bool = False) -> str:
    """Render messages of a row with the chat template.

    Args:
        live: The model whose tokenizer has the template.
        row: Named in errors.
        messages: The messages to render, from :func:`messages_of`.
        asks: End with the template's prompt for a reply.
    """
    return rendered(live.need_tokenizer(), messages, row.where, asks=asks, tools=row.tools)


def answers(look: Look, examples: Sequence[EncodedExample]) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield each example's index and the logits of its answer: [answers, vocabulary], in the model's dtype, on its device."""
    import torch

    model = look.live.model
    with torch.inference_mode():
        for rows in _batches(look, examples):
            batch = collate([example.tokens for example in examples], rows)
            keep = batch.tokens.shape[1] - min(examples[row].answer_at for row in rows) + 1
            logits = _logits(model, batch.tokens.to(look.live.device), batch.mask.to(look.live.device), keep)
            first = batch.tokens.shape[1] - logits.shape[1]
            for at, row in enumerate(rows):
                example = examples[row]
                yield row, logits[at, example.answer_at - 1 - first : len(example.tokens) - 1 - first]
            del logits  # before the next batch's are computed
            look.done(len(rows))


def _logits(model: Any, tokens: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """Logits of the last ``keep`` positions, or of all if the model has no ``logits_to_keep``."""
    fewer = {"logits_to_keep": keep} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    logits: torch.Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False, **fewer).logits
    return logits


def _batches(look: Look, examples: Sequence[EncodedExample]) -> Iterator[list[int]]:
    """Indices of examples, shortest first, in batches as large as allowed."""
    each = _vocabulary(look.live.model) * 4
    rows: list[int] = []
    for row in sorted(range(len(examples)), key=lambda row: (len(examples[row].tokens), row)):
        wider = [*rows, row]
        keep = len(examples[row].tokens) - min(examples[other].answer_at for other in wider) + 1
        if rows and (len(wider) > look.batch_size or len(wider) * keep * each > LOGITS):
            yield rows
            wider = [row]
        rows = wider
    if rows:
        yield rows


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def log_probabilities(logits: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the log softmax in fp32, a few tokens at a time: [≤ CHUNK, vocabulary]."""
    for start in range(0, len(logits), CHUNK):
        yield logits[start : start + CHUNK].float().log_softmax(-1)


def losses(look: Look, examples: Sequence[EncodedExample]) -> list[float]:
    """−Σ log p(token | all before it) over the answer of each example, in nats."""
    import torch

    totals = [0.0] * len(examples)
    for row, logits in answers(look, examples):
        wanted = torch.tensor(examples[row].tokens[examples[row].answer_at :], device=logits.device)
        for at, chunk in enumerate(log_probabilities(logits)):
            part = wanted[at * CHUNK : (at + 1) * CHUNK]
            totals[row] -= float(chunk.gather(1, part[:, None]).double().sum())
    return totals
