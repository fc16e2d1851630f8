"""Tokenize examples and mark the learnt tokens.

A token is learnt if any of its characters is (`persona.inference.turns`). The text is the concatenation of an example's
pieces, or its messages rendered with the tokenizer's chat template. If the template changes earlier turns once others
follow, such as one that removes their reasoning, a conversation becomes several rows: each answer is learnt in a row
that has the turns before it as the model sees them when it writes that answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import UsageError
from persona.inference.fitting import fitted, leaves_out_tools
from persona.inference.messages import ASSISTANT
from persona.inference.turns import Rendering, marked, rendered, renderings
from persona.training.examples import TrainingExample

_ALL = "Or learn all tokens: --set loss=all"


@dataclass(frozen=True)
class Tokenized:
    """A tokenized example.

    `straddles` if a token has both learnt and other characters. The first row of an example has the number of `further`
    ones, and is `toolless` if the template leaves out its descriptions of tools. A row is `partial` if the template
    leaves out part of an answer, such as its reasoning, and `unasked` if the answer is not how the template's prompt
    goes on.
    """

    where: str
    tokens: tuple[int, ...]
    learnt: tuple[bool, ...]
    straddles: bool = False
    further: int = 0
    toolless: bool = False
    partial: bool = False
    unasked: bool = False

    @property
    def counted(self) -> int:
        """Number of tokens in the loss, which never includes the first one: nothing predicts it."""
        return sum(self.learnt[1:])

    def cut(self, most: int) -> Tokenized:
        """Truncate to `most` tokens: keeps the first ones if everything is learnt, else the last ones, with the answers."""
        if len(self.tokens) <= most:
            return self
        place = slice(0, most) if all(self.learnt[1:]) else slice(len(self.tokens) - most, None)
        return replace(self, tokens=self.tokens[place], learnt=self.learnt[place])


def tokenize(tokenizer: Any, examples: Sequence[TrainingExample]) -> list[Tokenized]:
    """Tokenize examples, in order; a conversation may become several rows, in the order of their answers.

    Raises:
        UsageError: an example has messages but the tokenizer no chat template, or its answers cannot be located.
    """
    rows = (_chat(tokenizer, example) if example.messages else [_plain(tokenizer, example)] for example in examples)
    return [row for some in rows for row in some]


def _plain(tokenizer: Any, example: TrainingExample) -> Tokenized:
    text = "".join(piece for piece, _ in example.pieces)
    places: list[tuple[int, int]] = []
    at = 0
    for piece, counts in example.pieces:
        places += [(at, at + len(piece))] if counts else []
        at += len(piece)
    encoded = marked(tokenizer, text, places, example.where, _ALL, special=True)
    end, everything = tokenizer.eos_token_id, all(counts for _, counts in example.pieces)
    tokens, learnt = list(encoded.tokens), [everything or mark for mark in encoded.marks]
    if example.ends and end is not None and text:
        if tokens[-1:] == [end]:  # some tokenizers add it themselves
            tokens, learnt = tokens[:-1], learnt[:-1]
        tokens, learnt = [*tokens, end], [*learnt, example.pieces[-1][1]]
    return Tokenized(example.where, tuple(tokens), tuple(learnt), encoded.straddles)


def _chat(tokenizer: Any, example: TrainingExample) -> list[Tokenized]:
    _check_template(tokenizer, example)
    where, tools = example.where, example.tools
    messages = fitted(tokenizer, [message.fields for message in example.messages], tools, where)
    toolless = leaves_out_tools(tokenizer, messages, tools, where)
    counts = [message.learnt for message in example.messages]
    if example.everything or (all(counts) and any(message.role != ASSISTANT for message in example.messages)):
        tokens = marked(tokenizer, rendered(tokenizer, messages, where, tools=tools), (), where, _ALL).tokens
        return [Tokenized(where, tokens, (True,) * len(tokens), toolless=toolless)]
    texts = sorted(renderings(tokenizer, messages, counts, where, _ALL, tools), key=lambda one: one.numbers)
    rows = [_row(tokenizer, example, one) for one in texts]
    return [replace(row, further=len(rows) - 1, toolless=toolless) for row in rows[:1]] + rows[1:]


def _row(tokenizer: Any, example: TrainingExample, rendering: Rendering) -> Tokenized:
    done = marked(tokenizer, rendering.text, rendering.places, example.where, _ALL)
    text = "".join(rendering.text.split())
    said = [part for number in rendering.numbers for part in example.messages[number].texts]
    partial = any("".join(part.split()) not in text for part in said)
    return Tokenized(example.where, done.tokens, done.marks, done.straddles, partial=partial, unasked=rendering.unasked)


def _check_template(tokenizer: Any, example: TrainingExample) -> None:
    try:
        tokenizer.get_chat_template()
    except ValueError:
        raise UsageError(
            f"{example.where} has messages, but the base's tokenizer has no chat template",
            "Use prompt and completion, or text; or start from a base that has chat_template.jinja.",
        ) from None
