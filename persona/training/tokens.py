"""Examples in tokens, and which of them are learnt.

A token is learnt if a character of it is, in the text that the model reads (:mod:`persona.inference.turns`). That text is the
pieces of an example, one after the other, or what the tokenizer's chat template makes of its messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from persona.errors import UsageError
from persona.inference.turns import Marked, marked, rendered, spans
from persona.training.examples import TrainingExample

_ALL = "Or learn all of the text: --set loss=all"


@dataclass(frozen=True)
class Tokenized:
    """Tokens of an example; ``straddles`` if one lies across the border between what is learnt and what is not."""

    where: str
    tokens: tuple[int, ...]
    learnt: tuple[bool, ...]
    straddles: bool = False

    @property
    def counted(self) -> int:
        """Tokens that the loss is over: a first token is predicted from nothing, so it never counts."""
        return sum(self.learnt[1:])

    def cut(self, most: int) -> Tokenized:
        """At most ``most`` tokens: the last ones where only answers are learnt, the first ones of a text."""
        if len(self.tokens) <= most:
            return self
        place = slice(0, most) if all(self.learnt[1:]) else slice(len(self.tokens) - most, None)
        return replace(self, tokens=self.tokens[place], learnt=self.learnt[place])


def tokenize(tokenizer: Any, examples: Sequence[TrainingExample]) -> list[Tokenized]:
    """All of them, in their order."""
    return [_chat(tokenizer, one) if one.messages else _plain(tokenizer, one) for one in examples]


def _plain(tokenizer: Any, example: TrainingExample) -> Tokenized:
    text = "".join(piece for piece, _ in example.pieces)
    places: list[tuple[int, int]] = []
    at = 0
    for piece, counts in example.pieces:
        places += [(at, at + len(piece))] if counts else []
        at += len(piece)
    done = marked(tokenizer, text, places, example.where, _ALL, special=True)
    end, everything = tokenizer.eos_token_id, all(counts for _, counts in example.pieces)
    tokens, learnt = list(done.tokens), [everything or one for one in done.marks]
    if example.ends and end is not None and text:
        if tokens[-1:] == [end]:  # as some tokenizers do themselves
            tokens, learnt = tokens[:-1], learnt[:-1]
        tokens, learnt = [*tokens, end], [*learnt, example.pieces[-1][1]]
    return Tokenized(example.where, tuple(tokens), tuple(learnt), done.straddles)


def _chat(tokenizer: Any, example: TrainingExample) -> Tokenized:
    _check_template(tokenizer, example)
    messages = [{"role": one.role, "content": one.content} for one in example.messages]
    counts = [one.learnt for one in example.messages]
    whole = rendered(tokenizer, messages, example.where)
    if all(counts):
        done = marked(tokenizer, whole, (), example.where, _ALL)
        done = Marked(done.tokens, (True,) * len(done.tokens))
    else:
        places = spans(tokenizer, messages, counts, whole, example.where, _ALL)
        done = marked(tokenizer, whole, places, example.where, _ALL)
    return Tokenized(example.where, done.tokens, done.marks, done.straddles)


def _check_template(tokenizer: Any, example: TrainingExample) -> None:
    try:
        tokenizer.get_chat_template()
    except ValueError:
        raise UsageError(
            f"{example.where} has messages, and the base's tokenizer has no chat template",
            "Use prompt and completion, or text; or begin with a base that has chat_template.jinja.",
        ) from None
