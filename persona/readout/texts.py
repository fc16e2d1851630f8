"""Texts as a model reads them, with a mark at each token that counts.

A text is run as it is, with the special tokens that the tokenizer puts around a text. A text that is a JSON list of
messages, ``[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]``, is a conversation, and is run as
the tokenizer's chat template writes it. Under the pooling "assistant" every text is one, and what counts is what the
assistant wrote, by characters (:mod:`persona.inference.turns`).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.inference.batches import longest
from persona.inference.turns import ASSISTANT, marked, rendered, spans
from persona.readout.capture import POOLINGS

if TYPE_CHECKING:
    from persona.inference.load import LoadedModel

TOO_LONG = ("error", "cut", "skip")
"""What becomes of a text that is longer than the model reads."""

AT_ONCE = 256
"""Texts that the tokenizer gets at a time: its lists take far more memory than the arrays that are kept."""

_INSTEAD = "Use --pooling mean, or texts that are conversations."
_ALL = "Or count all of the text: --pooling mean"


@dataclass(frozen=True)
class EncodedText:
    """Texts in tokens. ``marks`` is 1 at tokens that count, None where all do.

    ``rows`` are the places of the texts that are kept; ``cut`` how many of them are shortened.
    """

    rows: tuple[int, ...]
    tokens: tuple[array[int], ...]
    marks: tuple[array[int], ...] | None
    cut: int = 0


def encode(live: LoadedModel, texts: Sequence[str], pooling: str = "mean", too_long: str = "error") -> EncodedText:
    """``texts`` in tokens, in their order; an error names the text."""
    if pooling not in POOLINGS or too_long not in TOO_LONG:
        raise UsageError(f"unknown: '{pooling}', '{too_long}'", f"Known: {', '.join((*POOLINGS, *TOO_LONG))}.")
    live.need_tokenizer()
    most = longest(live.model)
    found, kept, long = [], [], []
    for row, one in enumerate(_all(live, texts, pooling)):
        if most is not None and len(one[0]) > most:
            long.append((row, len(one[0])))
            if too_long != "cut":
                continue
            one = (one[0][:most], one[1][:most])
            if pooling == "assistant" and not any(one[1]):
                raise UsageError(f"nothing of {_named(texts[row])} counts within {most:,} tokens", "Leave it out.")
        kept.append(row)
        found.append(one)
    if long and too_long == "error":
        _refuse(live, texts, long, most or 0)
    marks = tuple(mark for _, mark in found) if pooling == "assistant" else None
    return EncodedText(tuple(kept), tuple(ids for ids, _ in found), marks, len(long) if too_long == "cut" else 0)


def _refuse(live: LoadedModel, texts: Sequence[str], long: Sequence[tuple[int, int]], most: int) -> None:
    row, count = max(long, key=lambda one: one[1])
    what = "a text has" if len(long) == 1 else f"{len(long):,} texts are too long: the longest has"
    raise UsageError(
        f"{what} {count:,} tokens, and {live.label} reads {most:,}: {_named(texts[row])}",
        "Cut them with --too-long cut, leave them out with --too-long skip, or divide them.",
    )


def _all(live: LoadedModel, texts: Sequence[str], pooling: str) -> Iterator[tuple[array[int], array[int]]]:
    """Tokens and marks of each text; no marks unless they are asked for."""
    for at in range(0, len(texts), AT_ONCE):
        yield from _some(live.tokenizer, texts[at : at + AT_ONCE], pooling)


def _some(tokenizer: Any, texts: Sequence[str], pooling: str) -> Iterator[tuple[array[int], array[int]]]:
    talks = [conversation(text) for text in texts]
    plain = [text for text, talk in zip(texts, talks, strict=True) if talk is None]
    if pooling == "assistant" and plain:
        raise UsageError(f"{_named(plain[0])} is no conversation, so nothing in it is the assistant's", _INSTEAD)
    ids = iter(tokenizer(plain, add_special_tokens=True, truncation=False, verbose=False)["input_ids"] if plain else ())
    for text, talk in zip(texts, talks, strict=True):
        one, mark = (next(ids), None) if talk is None else _talk(tokenizer, text, talk, pooling == "assistant")
        if not len(one):
            raise UsageError(f"{_named(text)} has no tokens", "Leave it out.")
        yield array("i", one), array("i", mark or ())


def conversation(text: str) -> list[dict[str, str]] | None:
    """The messages of a text that is a JSON list of them; None of any other."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_talk = isinstance(found, list) and found and all(_is_message(one) for one in found)
    return found if is_talk else None


def _is_message(one: object) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("role", "content"))


def _talk(
    tokenizer: Any, text: str, messages: list[dict[str, str]], marks: bool
) -> tuple[Sequence[int], Sequence[bool] | None]:
    if not tokenizer.chat_template:
        raise UsageError(f"{_named(text)} is a conversation, and the tokenizer has no chat template", _INSTEAD)
    where = _named(text)
    whole = rendered(tokenizer, messages, where)
    if not marks:
        return tokenizer(whole, add_special_tokens=False, truncation=False, verbose=False)["input_ids"], None
    counts = [one["role"] == ASSISTANT for one in messages]
    places = spans(tokenizer, messages, counts, whole, where, _ALL)
    done = marked(tokenizer, whole, places, where, _ALL)
    if not any(done.marks):
        raise UsageError(f"the assistant says nothing in {where}", "Leave it out, or use --pooling mean.")
    return done.tokens, done.marks


def _named(text: str) -> str:
    start = " ".join(text[:200].split())
    return f"'{start[:60]}{'…' if len(start) > 60 else ''}'"
