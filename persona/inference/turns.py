"""Marking the tokens of chosen messages in a conversation, by their characters in the rendered text.

The text is what the tokenizer's chat template renders. A token is marked if one of its characters belongs to a chosen
message. Where the messages are in the text:

- A template with ``{% generation %}`` says itself where the assistant's are.
- Otherwise, the answer to ``messages[:i]`` starts where the rendering of ``messages[:i]`` with its generation prompt
  ends, and stops where that of ``messages[:i+1]`` ends. Both must be prefixes of the whole text. If a template renders
  earlier turns differently once later ones follow, they are not, which is an error.

The whole text is tokenized once, and the tokenizer's offsets map tokens to characters. transformers' own mask of
assistant tokens is not used: if a message ends in a space that is in no token, it extends to the end of the text (5.23).

In all functions, ``where`` names the text in errors, and ``instead`` is a hint for when marking is impossible.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona.errors import UsageError

Messages = Sequence[Mapping[str, str]]
Span = tuple[int, int]

ASSISTANT = "assistant"
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Marked:
    """A tokenized text. ``marks`` are true at marked tokens; ``straddles`` says that one is only partly in a message."""

    tokens: tuple[int, ...]
    marks: tuple[bool, ...]
    straddles: bool = False


def rendered(tokenizer: Any, messages: Messages, where: str, *, asks: bool = False) -> str:
    """Render the chat template; with ``asks``, ending in the generation prompt.

    Raises:
        UsageError: the template rejects the messages.
    """
    with _translated(where):
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=asks
        )
    return text


def spans(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], whole: str, where: str, instead: str
) -> list[Span]:
    """Find the character spans of chosen messages.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The conversation.
        counts: For each message, whether it is chosen.
        whole: The conversation as :func:`rendered` returns it.
        where: Names the text in errors.
        instead: A hint for when the spans cannot be found.

    Raises:
        UsageError: the template renders earlier turns differently once later ones follow.
    """
    template = str(tokenizer.get_chat_template())
    assistants = [message["role"] == ASSISTANT for message in messages]
    if _GENERATION.search(template) and assistants == list(counts):
        return _by_template(tokenizer, template, messages, whole, where)
    return list(_answers(tokenizer, messages, counts, whole, where, instead))


def _by_template(tokenizer: Any, template: str, messages: Messages, whole: str, where: str) -> list[Span]:
    """The spans that a template with ``{% generation %}`` reports."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with _translated(where):
        texts, found = render_jinja_template(
            [[dict(message) for message in messages]],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    assert texts[0] == whole
    return [(int(start), int(stop)) for start, stop in found[0]]


def _answers(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], whole: str, where: str, instead: str
) -> Iterator[Span]:
    """The spans that follow from rendering each prefix of the conversation."""
    for at, message in enumerate(messages):
        if not counts[at]:
            continue
        asks = message["role"] == ASSISTANT
        begin = rendered(tokenizer, messages[:at], where, asks=asks) if at or asks else ""
        end = rendered(tokenizer, messages[: at + 1], where)
        if not whole.startswith(begin) or not whole.startswith(end) or len(begin) > len(end):
            raise UsageError(
                f"{where}: the chat template renders the turns up to message {at + 1} differently once others "
                "follow, so the tokens of the answer cannot be found",
                f"Use a base whose template has {{% generation %}}, or end the conversation there. {instead}",
            )
        yield len(begin), len(end)


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn an error of a chat template into a UsageError."""
    try:
        yield
    except Exception as error:  # templates are arbitrary code, so not only jinja's errors
        reason = str(error).strip().split("\n")[0][:200]
        raise UsageError(
            f"{where}: the chat template rejects it: {reason}", "Change the messages to what the template expects."
        ) from error


def marked(
    tokenizer: Any, text: str, chosen: Sequence[Span], where: str, instead: str, *, special: bool = False
) -> Marked:
    """Tokenize a text and mark the tokens that have a character in a span.

    Args:
        chosen: Spans of characters.
        where: Names the text in errors.
        instead: A hint for when tokens cannot be mapped to characters.
        special: Add the special tokens that the tokenizer puts around a text.

    Raises:
        UsageError: the tokenizer has no offsets, and a span starts or ends within a token.
    """
    if not getattr(tokenizer, "is_fast", False):
        return _by_beginnings(tokenizer, text, chosen, where, instead, special)
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, truncation=False, verbose=False)
    marks, straddles = [], False
    for start, stop in encoded["offset_mapping"]:
        inside = sum(max(0, min(stop, last) - max(start, first)) for first, last in chosen)
        marks.append(inside > 0)
        straddles = straddles or 0 < inside < stop - start
    return Marked(tuple(encoded["input_ids"]), tuple(marks), straddles)


def _by_beginnings(
    tokenizer: Any, text: str, chosen: Sequence[Span], where: str, instead: str, special: bool
) -> Marked:
    """Do the same with a tokenizer without offsets: the tokens of each prefix must be a prefix of all tokens."""
    tokens = tokenizer(text, add_special_tokens=special)["input_ids"]
    marks = [False] * len(tokens)
    for span in chosen:
        ends = []
        for place in span:
            part = tokenizer(text[:place], add_special_tokens=special)["input_ids"]
            if tokens[: len(part)] != part:
                raise UsageError(
                    f"{where}: the answer does not start and end between two tokens of this tokenizer", instead
                )
            ends.append(len(part))
        marks[ends[0] : ends[1]] = [True] * (ends[1] - ends[0])
    return Marked(tuple(tokens), tuple(marks))
