"""Marking the tokens of chosen messages in a conversation, by their characters in the rendered text.

The text is what the tokenizer's chat template renders. A token is marked if one of its characters belongs to a chosen
message. Where the messages are in the text:

- A template with ``{% generation %}`` says itself where the assistant's are.
- Otherwise, the answer to ``messages[:i]`` starts where the rendering of ``messages[:i]`` with its generation prompt
  ends, and stops where that of ``messages[:i+1]`` ends. Both must be prefixes of the whole text. If a template renders
  earlier turns differently once later ones follow, they are not: :func:`spans` raises, and :func:`renderings` renders
  the conversation up to that answer once more, so that each answer is found in a text that ends like the one that the
  model writes it in.
- What comes before an answer that no message precedes is what its renderings with two contents have in common.

The whole text is tokenized once, and the tokenizer's offsets map tokens to characters. transformers' own mask of
assistant tokens is not used: if a message ends in a space that is in no token, it extends to the end of the text (5.23).

In all functions, ``where`` names the text in errors, ``instead`` is a hint for when marking is impossible, and ``tools``
describes functions that the model may call.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona.errors import UsageError
from persona.inference.messages import ASSISTANT

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
Span = tuple[int, int]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Marked:
    """A tokenized text. ``marks`` are true at marked tokens; ``straddles`` says that one is only partly in a message."""

    tokens: tuple[int, ...]
    marks: tuple[bool, ...]
    straddles: bool = False


@dataclass(frozen=True)
class Rendering:
    """A conversation as text, where chosen messages are in it, and their numbers.

    It is `unasked` if the template's prompt for the last one is not how the text goes on; that one is then marked from
    where they differ.
    """

    text: str
    places: tuple[Span, ...]
    numbers: tuple[int, ...]
    unasked: bool = False


def rendered(tokenizer: Any, messages: Messages, where: str, *, asks: bool = False, tools: Tools = ()) -> str:
    """Render the chat template; with ``asks``, ending in the generation prompt.

    Raises:
        UsageError: the template rejects the messages.
    """
    with _translated(where):
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tools=[dict(tool) for tool in tools] or None,
            tokenize=False,
            add_generation_prompt=asks,
        )
    return text


def spans(
    tokenizer: Any,
    messages: Messages,
    counts: Sequence[bool],
    whole: str,
    where: str,
    instead: str,
    tools: Tools = (),
) -> list[Span]:
    """Find the character spans of chosen messages.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The conversation.
        counts: For each message, whether it is chosen.
        whole: The conversation as :func:`rendered` returns it.
        where: Names the text in errors.
        instead: A hint for when the spans cannot be found.
        tools: Functions that the model may call.

    Raises:
        UsageError: the template renders earlier turns differently once later ones follow.
    """
    own = _by_template(tokenizer, messages, counts, whole, where, tools)
    if own is not None:
        return own
    answers, found = _Answers.of(tokenizer, messages, counts, where, tools), []
    for at in answers.begins:
        place = answers.place(at, whole)
        if place is None:
            raise UsageError(
                f"{where}: the chat template renders the turns up to message {at + 1} differently once others follow, "
                "so the tokens of the answer cannot be found",
                f"Use a base whose template has {{% generation %}}, or end the conversation there. {instead}",
            )
        found.append(place)
    return found


def renderings(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], where: str, instead: str, tools: Tools = ()
) -> Iterator[Rendering]:
    """Yield the conversation with the spans of chosen messages; up to some of them once more where the template needs it.

    Each chosen message is in one of the texts. The first text is the whole conversation, unless none is found in it.

    Raises:
        UsageError: the template renders the turns before an answer differently once it follows.
    """
    whole = rendered(tokenizer, messages, where, tools=tools)
    own = _by_template(tokenizer, messages, counts, whole, where, tools)
    if own is not None:
        yield Rendering(whole, tuple(own), tuple(at for at, counted in enumerate(counts) if counted))
        return
    answers = _Answers.of(tokenizer, messages, counts, where, tools)
    left = list(answers.begins)
    while left:
        found = {at: place for at in left if (place := answers.place(at, whole)) is not None}
        unasked = not found and whole == answers.ends[left[-1]]
        if unasked:
            before = rendered(tokenizer, messages[: left[-1]], where, tools=tools) if left[-1] else ""
            found = answers.differing(left[-1], before)
        if found:
            yield Rendering(whole, tuple(found.values()), tuple(found), unasked)
        left = [at for at in left if at not in found]
        if left and not found and unasked:
            raise UsageError(
                f"{where}: the chat template renders the turns up to message {left[-1] + 1} differently once that follows, "
                "so the tokens of the answer cannot be found",
                f"Use a base whose template has {{% generation %}}. {instead}",
            )
        whole = answers.ends[left[-1]] if left else whole


@dataclass(frozen=True)
class _Answers:
    """The text up to each chosen message, without it and with it, by the message's number."""

    begins: Mapping[int, str]
    ends: Mapping[int, str]

    @classmethod
    def of(cls, tokenizer: Any, messages: Messages, counts: Sequence[bool], where: str, tools: Tools) -> _Answers:
        chosen = [at for at, counted in enumerate(counts) if counted]
        begins = {at: _beginning(tokenizer, messages[: at + 1], where, tools) for at in chosen}
        return cls(begins, {at: rendered(tokenizer, messages[: at + 1], where, tools=tools) for at in chosen})

    def place(self, at: int, whole: str) -> Span | None:
        """Where a message is in a text; None if the text does not begin as the model would see it."""
        begin, end = self.begins[at], self.ends[at]
        ordered = whole.startswith(begin) and whole.startswith(end) and len(begin) <= len(end)
        return (len(begin), len(end)) if ordered else None

    def differing(self, at: int, before: str) -> dict[int, Span]:
        """Where a message is in the text that ends with it, from where that differs from the prompt; empty if sooner.

        Args:
            at: The number of the message.
            before: The text of the messages before it, without a prompt.
        """
        begin, end = self.begins[at], self.ends[at]
        same = _common(begin, end)
        return {at: (same, len(end))} if end.startswith(before) and same >= len(before) else {}


def _beginning(tokenizer: Any, messages: Messages, where: str, tools: Tools) -> str:
    """The text that comes before the last message."""
    asks = messages[-1]["role"] == ASSISTANT
    if len(messages) == 1:
        return _opening(tokenizer, messages, where, tools) if asks else ""
    try:
        return rendered(tokenizer, messages[:-1], where, asks=asks, tools=tools)
    except UsageError:
        if not asks:
            raise
        return _opening(tokenizer, messages, where, tools)


def _opening(tokenizer: Any, messages: Messages, where: str, tools: Tools) -> str:
    """The same for an answer whose template does not render what comes before it alone, such as nothing at all."""
    *before, last = messages
    parts = isinstance(last.get("content"), list)
    contents = ([{"type": "text", "text": text}] if parts else text for text in ("0", "1"))
    one, other = (rendered(tokenizer, [*before, {**last, "content": said}], where, tools=tools) for said in contents)
    common = one[: _common(one, other)]
    prompt = _prompt(tokenizer, where)
    at = common.rfind(prompt) if prompt else -1
    return common[: at + len(prompt)] if at >= 0 else common


def _common(one: str, other: str) -> int:
    """The length of what two texts have in common at their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _prompt(tokenizer: Any, where: str) -> str:
    """The template's generation prompt; empty if it has none."""
    asked = [{"role": "user", "content": "0"}]
    try:
        short, long = (rendered(tokenizer, asked, where, asks=asks) for asks in (False, True))
    except UsageError:
        return ""
    return long.removeprefix(short) if long.startswith(short) else ""


def _by_template(
    tokenizer: Any, messages: Messages, counts: Sequence[bool], whole: str, where: str, tools: Tools
) -> list[Span] | None:
    """The spans that a template with ``{% generation %}`` reports; None if it does not say where each answer is."""
    from transformers.utils.chat_template_utils import render_jinja_template

    given = [dict(tool) for tool in tools] or None
    template = str(tokenizer.get_chat_template(tools=given))
    assistants = [message["role"] == ASSISTANT for message in messages]
    others = any(counted and not assistant for counted, assistant in zip(counts, assistants, strict=True))
    if others or not _GENERATION.search(template):
        return None
    with _translated(where):
        texts, found = render_jinja_template(
            [[dict(message) for message in messages]],
            tools=given,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    assert texts[0] == whole
    own = [(int(start), int(stop)) for start, stop in found[0]]
    if list(counts) == assistants:
        return own
    if len(own) != sum(assistants):
        return None
    chosen = [counted for counted, assistant in zip(counts, assistants, strict=True) if assistant]
    return [place for place, counted in zip(own, chosen, strict=True) if counted]


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
