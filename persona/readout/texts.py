"""Tokenize texts and mark the tokens to pool over.

A plain text is tokenized as it is, with the tokenizer's special tokens. A text that is a JSON list of messages,
`[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]`, is a conversation and is rendered with the
tokenizer's chat template; `persona.inference.messages` lists the kinds of messages. The pooling "assistant" requires conversations, and marks the tokens with at least one
character that the assistant wrote (`persona.inference.turns`).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.batches import longest
from persona.inference.fitting import fitted
from persona.inference.messages import ASSISTANT, Message, is_message, messages_in
from persona.inference.turns import marked, rendered, spans
from persona.readout.capture import POOLINGS

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

TOO_LONG = ("error", "cut", "skip")
"""What to do with a text longer than the model's context."""

AT_ONCE = 256
"""Number of texts per tokenizer call: its lists take far more memory than the arrays kept here."""

_INSTEAD = "Use --pooling mean, or conversations with a chat template."
_ALL = "Or pool over all tokens: --pooling mean"


@dataclass(frozen=True)
class EncodedText:
    """Tokenized texts.

    `marks` is 1 at tokens to pool over, or None for all. `rows` are the indices of the texts that were kept; `cut` of
    them were shortened.
    """

    rows: tuple[int, ...]
    tokens: tuple[array[int], ...]
    marks: tuple[array[int], ...] | None
    cut: int = 0


def encode(loaded: LoadedModel, texts: Sequence[str], pooling: str = "mean", too_long: str = "error") -> EncodedText:
    """Tokenize texts, in order.

    Args:
        pooling: One of `POOLINGS`; "assistant" marks the assistant's tokens.
        too_long: One of `TOO_LONG`.

    Raises:
        UsageError: a text is too long, empty, or without marked tokens; the message quotes it.
    """
    if pooling not in POOLINGS or too_long not in TOO_LONG:
        raise UsageError(f"unknown: '{pooling}', '{too_long}'", f"Known: {', '.join((*POOLINGS, *TOO_LONG))}.")
    loaded.need_tokenizer()
    most = longest(loaded.model)
    kept: list[tuple[int, array[int], array[int]]] = []
    long = []
    for row, (tokens, marks) in enumerate(_all(loaded, texts, pooling)):
        if most is not None and len(tokens) > most:
            long.append((row, len(tokens)))
            if too_long != "cut":
                continue
            tokens, marks = tokens[:most], marks[:most]
            if pooling == "assistant" and not any(marks):
                raise UsageError(
                    f"the first {most:,} tokens of {_named(texts[row])} have none of the assistant's", "Leave it out."
                )
        kept.append((row, tokens, marks))
    if long and too_long == "error":
        _refuse(loaded, texts, long, most or 0)
    return EncodedText(
        rows=tuple(row for row, _, _ in kept),
        tokens=tuple(tokens for _, tokens, _ in kept),
        marks=tuple(marks for _, _, marks in kept) if pooling == "assistant" else None,
        cut=len(long) if too_long == "cut" else 0,
    )


def _refuse(loaded: LoadedModel, texts: Sequence[str], long: Sequence[tuple[int, int]], most: int) -> None:
    row, count = max(long, key=lambda text: text[1])
    what = "a text has" if len(long) == 1 else f"{len(long):,} texts are too long: the longest has"
    raise UsageError(
        f"{what} {count:,} tokens, more than the context of {loaded.label} ({most:,}): {_named(texts[row])}",
        "Truncate with --too-long cut, leave them out with --too-long skip, or split them.",
    )


def _all(loaded: LoadedModel, texts: Sequence[str], pooling: str) -> Iterator[tuple[array[int], array[int]]]:
    """Yield tokens and marks of each text; marks are empty unless pooling is "assistant"."""
    for at in range(0, len(texts), AT_ONCE):
        yield from _some(loaded.tokenizer, texts[at : at + AT_ONCE], pooling)


def _some(tokenizer: Any, texts: Sequence[str], pooling: str) -> Iterator[tuple[array[int], array[int]]]:
    talks = [conversation(text) for text in texts]
    plain = [text for text, talk in zip(texts, talks, strict=True) if talk is None]
    if pooling == "assistant" and plain:
        raise UsageError(f"{_named(plain[0])} is not a conversation, so it has no assistant's tokens", _INSTEAD)
    ids = iter(tokenizer(plain, add_special_tokens=True, truncation=False, verbose=False)["input_ids"] if plain else ())
    for text, talk in zip(texts, talks, strict=True):
        tokens, marks = (next(ids), None) if talk is None else _talk(tokenizer, text, talk, pooling == "assistant")
        if not len(tokens):
            raise UsageError(f"{_named(text)} has no tokens", "Leave it out.")
        yield array("i", tokens), array("i", marks or ())


def conversation(text: str) -> tuple[Message, ...] | None:
    """The messages of a text that is a JSON list of them, else None.

    Raises:
        UsageError: it is a list of messages, and one has other content than text.
    """
    if not text.lstrip().startswith("["):
        return None
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_talk = isinstance(entries, list) and entries and all(map(is_message, entries))
    return messages_in(_named(text), "the conversation", entries) if is_talk else None


def _talk(
    tokenizer: Any, text: str, talk: tuple[Message, ...], marks: bool
) -> tuple[Sequence[int], Sequence[bool] | None]:
    if not tokenizer.chat_template:
        raise UsageError(f"{_named(text)} is a conversation, but the tokenizer has no chat template", _INSTEAD)
    where = _named(text)
    messages = fitted(tokenizer, talk, (), where)
    whole = rendered(tokenizer, messages, where)
    if not marks:
        return tokenizer(whole, add_special_tokens=False, truncation=False, verbose=False)["input_ids"], None
    counts = [message["role"] == ASSISTANT for message in messages]
    places = spans(tokenizer, messages, counts, whole, where, _ALL)
    encoded = marked(tokenizer, whole, places, where, _ALL)
    if not any(encoded.marks):
        raise UsageError(f"{where} has no text by the assistant", "Leave it out, or use --pooling mean.")
    return encoded.tokens, encoded.marks


def _named(text: str) -> str:
    start = " ".join(text[:200].split())
    return f"'{start[:60]}{'…' if len(start) > 60 else ''}'"
