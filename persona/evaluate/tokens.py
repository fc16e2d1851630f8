"""Examples as tokens, and what a model says of their answers.

Batches are padded on the right and sorted by length, so that causal attention never sees padding: results depend neither on the
batch size nor on the tokenizer's own padding side, but for the rounding of the model's own arithmetic. Of a batch only the
logits of answers are asked for where the model can be asked, and no batch has more than ``LOGITS`` bytes of them, one example aside.
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
from persona.inference.turns import ASSISTANT, rendered

if TYPE_CHECKING:
    import torch

    from persona.evaluate.measures import Look
    from persona.inference.load import LoadedModel

LOGITS = 64 << 20
"""Bytes of logits that a batch may have."""

CHUNK = 64
"""Tokens whose logits are held in fp32 at a time."""


@dataclass(frozen=True)
class EncodedExample:
    """An example in tokens; those from ``answer_at`` (at least 1) on are predicted, each from all before it."""

    tokens: tuple[int, ...]
    answer_at: int

    @property
    def answers(self) -> int:
        """How many tokens are predicted."""
        return len(self.tokens) - self.answer_at


def encode(live: LoadedModel, rows: Sequence[SuiteRow]) -> list[EncodedExample]:
    """Examples with answers in tokens: special tokens as the tokenizer or its chat template puts them, and an end token after an
    answer, for where an answer ends is a part of it."""
    found = [_encoded(live, row) for row in rows]
    most = longest(live.model)
    for row, one in zip(rows, found, strict=True):
        if one.answers < 1:
            raise UsageError(
                f"{row.where} has no token that could be predicted", "Give it a longer text, or leave it out."
            )
        if most is not None and len(one.tokens) > most:
            raise UsageError(
                f"{row.where} has {len(one.tokens)} tokens, and {live.label} reads {most}",
                "Shorten it, or leave it out.",
            )
    return found


def _encoded(live: LoadedModel, row: SuiteRow) -> EncodedExample:
    if row.text is not None:
        return EncodedExample(tuple(ids(live, row.text)), 1)
    if row.messages:
        return _of_messages(live, row)
    if row.completion is None:
        raise UsageError(f"{row.where} has no 'completion', and its answer is what is measured", "Add it.")
    end = live.need_tokenizer().eos_token_id
    whole = ids(live, f"{row.prompt}{row.completion}")
    whole = whole if end is None or whole[-1:] == [end] else [*whole, end]
    return EncodedExample(tuple(whole), _parted(ids(live, row.prompt or ""), whole))


def _of_messages(live: LoadedModel, row: SuiteRow) -> EncodedExample:
    if row.messages[-1]["role"] != ASSISTANT or len(row.messages) < 2:
        raise UsageError(
            f"{row.where}: the last of its messages is not an answer of the assistant",
            'End with {"role": "assistant", "content": "…"}.',
        )
    asked = _templated(live, row, row.messages[:-1], asks=True)
    whole = _templated(live, row, row.messages, asks=False)
    return EncodedExample(tuple(whole), _parted(asked, whole))


def _parted(asked: Sequence[int], whole: Sequence[int]) -> int:
    """Where an answer begins: where tokens of question and answer first differ from those of the question alone.

    This is not the question that :mod:`persona.inference.turns` answers, which tokens of a text are the assistant's: what is
    measured is all that has to follow the very prompt from which the model would answer (:func:`prompt_tokens`), up to
    the end, whether or not the template counts it (``{% generation %}``) as something to be learnt.
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, whole, strict=False)))
    return max(1, same)


def prompt_tokens(live: LoadedModel, row: SuiteRow) -> list[int]:
    """What a model is to go on from: the prompt, the messages before the assistant's last, or the text."""
    if row.messages:
        asked = row.messages[:-1] if row.messages[-1]["role"] == ASSISTANT else row.messages
        return _templated(live, row, asked, asks=True)
    text = row.prompt if row.prompt is not None else row.text or ""
    found, end = ids(live, text), live.need_tokenizer().eos_token_id
    return found[:-1] if found[-1:] == [end] and len(found) > 1 else found


def ids(live: LoadedModel, text: str) -> list[int]:
    """A text in tokens, with the special ones that the tokenizer puts around it."""
    found: list[int] = live.need_tokenizer()(text, add_special_tokens=True, truncation=False, verbose=False)[
        "input_ids"
    ]
    return found


def _templated(live: LoadedModel, row: SuiteRow, messages: Sequence[Any], *, asks: bool) -> list[int]:
    text = written(live, row, messages, asks=asks)
    found: list[int] = live.need_tokenizer()(text, add_special_tokens=False, verbose=False)["input_ids"]
    return found


def written(live: LoadedModel, row: SuiteRow, messages: Sequence[Any], *, asks: bool = False) -> str:
    """Messages of a row as the chat template writes them; with ``asks``, up to where the answer begins."""
    tokenizer = live.need_tokenizer()
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"{row.where} has messages, and the tokenizer of {live.label} has no chat template",
            "Write prompt and completion instead, or save a template with the base's tokenizer.",
        )
    return rendered(tokenizer, messages, row.where, asks=asks)


def answers(look: Look, examples: Sequence[EncodedExample]) -> Iterator[tuple[int, torch.Tensor]]:
    """Each example's place, and the logits of its answer [answers, vocabulary] in the model's own dtype, on its device."""
    import torch

    model = look.live.model
    with torch.inference_mode():
        for rows in _batches(look, examples):
            batch = collate([one.tokens for one in examples], rows)
            keep = batch.tokens.shape[1] - min(examples[row].answer_at for row in rows) + 1
            logits = _logits(model, batch.tokens.to(look.live.device), batch.mask.to(look.live.device), keep)
            first = batch.tokens.shape[1] - logits.shape[1]
            for at, row in enumerate(rows):
                one = examples[row]
                yield row, logits[at, one.answer_at - 1 - first : len(one.tokens) - 1 - first]
            del logits
            look.done(len(rows))


def _logits(model: Any, tokens: torch.Tensor, mask: torch.Tensor, keep: int) -> torch.Tensor:
    """Logits of the last ``keep`` positions, or of all where the model cannot leave any out."""
    fewer = {"logits_to_keep": keep} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    found: torch.Tensor = model(input_ids=tokens, attention_mask=mask, use_cache=False, **fewer).logits
    return found


def _batches(look: Look, examples: Sequence[EncodedExample]) -> Iterator[list[int]]:
    """Places of examples, shortest first, as many at a time as may be."""
    each = _vocabulary(look.live.model) * 4
    rows: list[int] = []
    for row in sorted(range(len(examples)), key=lambda row: (len(examples[row].tokens), row)):
        wider = [*rows, row]
        keep = len(examples[row].tokens) - min(examples[one].answer_at for one in wider) + 1
        if rows and (len(wider) > look.batch_size or len(wider) * keep * each > LOGITS):
            yield rows
            wider = [row]
        rows = wider
    if rows:
        yield rows


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def log_probabilities(logits: torch.Tensor) -> Iterator[torch.Tensor]:
    """log softmax in fp32, a few tokens at a time: [≤ CHUNK, vocabulary]."""
    for start in range(0, len(logits), CHUNK):
        yield logits[start : start + CHUNK].float().log_softmax(-1)


def losses(look: Look, examples: Sequence[EncodedExample]) -> list[float]:
    """−Σ log p(token | all before it) over the answer of each example, in nats."""
    import torch

    found = [0.0] * len(examples)
    for row, logits in answers(look, examples):
        wanted = torch.tensor(examples[row].tokens[examples[row].answer_at :], device=logits.device)
        for at, chunk in enumerate(log_probabilities(logits)):
            part = wanted[at * CHUNK : (at + 1) * CHUNK]
            found[row] -= float(chunk.gather(1, part[:, None]).double().sum())
    return found
