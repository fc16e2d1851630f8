"""Tokenize examples and mark the learnt tokens.

A token is learnt if any of its characters is (`persona.inference.turns`). The text is the concatenation of an example's
pieces, or its messages rendered with the tokenizer's chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import UsageError
from persona.inference.turns import marked, rendered, spans
from persona.training.examples import TrainingExample

_ALL = "Or learn all tokens: --set loss=all"


@dataclass(frozen=True)
class Tokenized:
    """A tokenized example; `straddles` if a token has both learnt and other characters."""

    where: str
    tokens: tuple[int, ...]
    learnt: tuple[bool, ...]
    straddles: bool = False

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
    """Tokenize examples, in order.

    Raises:
        UsageError: an example has messages but the tokenizer no chat template, or its answers cannot be located.
    """
    return [_chat(tokenizer, example) if example.messages else _plain(tokenizer, example) for example in examples]


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


def _chat(tokenizer: Any, example: TrainingExample) -> Tokenized:
    _check_template(tokenizer, example)
    messages = [{"role": message.role, "content": message.content} for message in example.messages]
    counts = [message.learnt for message in example.messages]
    whole = rendered(tokenizer, messages, example.where)
    if all(counts):
        tokens = marked(tokenizer, whole, (), example.where, _ALL).tokens
        return Tokenized(example.where, tokens, (True,) * len(tokens))
    places = spans(tokenizer, messages, counts, whole, example.where, _ALL)
    encoded = marked(tokenizer, whole, places, example.where, _ALL)
    return Tokenized(example.where, encoded.tokens, encoded.marks, encoded.straddles)


def _check_template(tokenizer: Any, example: TrainingExample) -> None:
    try:
        tokenizer.get_chat_template()
    except ValueError:
        raise UsageError(
            f"{example.where} has messages, but the base's tokenizer has no chat template",
            "Use prompt and completion, or text; or start from a base that has chat_template.jinja.",
        ) from None
