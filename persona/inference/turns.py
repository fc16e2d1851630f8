"""Which tokens of a conversation somebody wrote: by characters, in the text that the model reads.

A token counts if a character of it does. The text is what the tokenizer's chat template makes of the messages; where those
that count are in it:

- a template with ``{% generation %}`` says so of the assistant's itself;
- else the answer to ``messages[:i]`` begins where the template ends of ``messages[:i]`` with its generation prompt, and
  ends where that of ``messages[:i+1]`` does. Both texts must be beginnings of the whole, and it is looked whether they
  are: a template that renders earlier turns differently once there are later ones cannot tell, which is an error.

Tokens are found once, in the whole text, and held to characters by the tokenizer's offsets. transformers' own mask of the
assistant's tokens is not used: it runs on to the end of the text where such a part ends in a blank that is in no token (5.23).

``where`` names the text in errors, and ``instead`` is what to do where a template or a tokenizer cannot tell.
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
    """A text in tokens; ``marks`` are true at those that count, ``straddles`` if one lies across the border of what does."""

    tokens: tuple[int, ...]
    marks: tuple[bool, ...]
    straddles: bool = False


def rendered(tokenizer: Any, messages: Messages, where: str, *, asks: bool = False) -> str:
    """What the chat template writes; with ``asks`` it ends with the prompt for an answer."""
    with _translated(where):
        text: str = tokenizer.apply_chat_template(
            [dict(one) for one in messages], tokenize=False, add_generation_prompt=asks
        )
    return text


def spans(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], whole: str, where: str, instead: str
) -> list[Span]:
    """Where in the ``whole`` text, as :func:`rendered` has it, the messages are that count."""
    template = str(tokenizer.get_chat_template())
    assistants = [one["role"] == ASSISTANT for one in messages]
    if _GENERATION.search(template) and assistants == list(counts):
        return _told(tokenizer, template, messages, whole, where)
    return list(_answers(tokenizer, messages, counts, whole, where, instead))


def _told(tokenizer: Any, template: str, messages: Messages, whole: str, where: str) -> list[Span]:
    """As a template with ``{% generation %}`` has it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with _translated(where):
        texts, found = render_jinja_template(
            [[dict(one) for one in messages]],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    assert texts[0] == whole
    return [(int(start), int(stop)) for start, stop in found[0]]


def _answers(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], whole: str, where: str, instead: str
) -> Iterator[Span]:
    """By what the template makes of each beginning of the conversation."""
    for at, message in enumerate(messages):
        if not counts[at]:
            continue
        asks = message["role"] == ASSISTANT
        begin = rendered(tokenizer, messages[:at], where, asks=asks) if at or asks else ""
        end = rendered(tokenizer, messages[: at + 1], where)
        if not whole.startswith(begin) or not whole.startswith(end) or len(begin) > len(end):
            raise UsageError(
                f"{where}: the chat template writes the turns up to message {at + 1} in another way once others "
                "follow, so it cannot tell which tokens are the answer",
                f"Give a base whose template has {{% generation %}}, or end the conversation there. {instead}",
            )
        yield len(begin), len(end)


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """What a template raises of its own accord, as one of ours."""
    try:
        yield
    except Exception as error:  # jinja's errors, and whatever a template of anyone's making runs into
        said = str(error).strip().split("\n")[0][:200]
        raise UsageError(f"{where}: the chat template refuses it: {said}", "Write it as it expects.") from error


def marked(
    tokenizer: Any, text: str, found: Sequence[Span], where: str, instead: str, *, special: bool = False
) -> Marked:
    """A text's tokens, marked those that have a character in a span; ``special`` puts those in that go around a text."""
    if not getattr(tokenizer, "is_fast", False):
        return _by_beginnings(tokenizer, text, found, where, instead, special)
    done = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, truncation=False, verbose=False)
    marks, straddles = [], False
    for start, stop in done["offset_mapping"]:
        inside = sum(max(0, min(stop, last) - max(start, first)) for first, last in found)
        marks.append(inside > 0)
        straddles = straddles or 0 < inside < stop - start
    return Marked(tuple(done["input_ids"]), tuple(marks), straddles)


def _by_beginnings(tokenizer: Any, text: str, found: Sequence[Span], where: str, instead: str, special: bool) -> Marked:
    """The same of a tokenizer that has no offsets: the tokens of each beginning must be a beginning of all tokens."""
    tokens = tokenizer(text, add_special_tokens=special)["input_ids"]
    marks = [False] * len(tokens)
    for span in found:
        ends = []
        for place in span:
            part = tokenizer(text[:place], add_special_tokens=special)["input_ids"]
            if tokens[: len(part)] != part:
                raise UsageError(
                    f"{where}: the answer does not begin or end between two tokens of this tokenizer", instead
                )
            ends.append(len(part))
        marks[ends[0] : ends[1]] = [True] * (ends[1] - ends[0])
    return Marked(tuple(tokens), tuple(marks))
