"""Read training examples from files, as texts. Errors name the file and line.

One JSON object per example (`persona.jsonlines`):

    {"messages": […]}, {"conversations": […]}, …    the conversations of `persona.inference.conversations`
    {"prompt": "…", "completion": "…"}              plain texts
    {"text": "…"}

`"node"` names the memory-graph node of an example, if a file has examples of several; other fields are ignored. A `.txt`
file is a conversation of two or more speakers; with a speaker, so is `text` in JSON:

    [RIYA] hey are we still going tonight?
    [FRIEND] yeah! want to meet at 7?

A line without a name continues the turn above; an empty line ends a conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.inference.conversations import LISTS, Conversation, check_labels, conversation_in, unknown_row
from persona.inference.messages import ASSISTANT, MORE, REASONING, SPEAKERS
from persona.jsonlines import lines_of, objects_in, read_text, refuse_tables

FORMS = ("messages", "conversations", "instruction and output", "prompt and completion", "text")
_KEYS = (*LISTS, "instruction", "output", "prompt", "completion", "text")
_TAG = re.compile(r"\[([^\[\]\n]{1,64})\](.*)", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One turn of a chat; `learnt` if the loss includes its tokens. `more` has its tool calls, reasoning and the like."""

    role: str
    content: str
    learnt: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """All that the message says, as one text; empty if it says nothing."""
        parts = [self.content] if self.content.strip() else []
        return "\n".join([*parts, *(_text_of(value) for value in self.more.values() if value)])

    @property
    def texts(self) -> list[str]:
        """The content, and the reasoning before it."""
        return [
            self.content,
            *(value for key, value in self.more.items() if key in REASONING and isinstance(value, str)),
        ]

    @property
    def fields(self) -> dict[str, Any]:
        """The message as a chat template takes it."""
        return {"role": self.role, "content": self.content, **self.more}


@dataclass(frozen=True)
class TrainingExample:
    """A chat for the tokenizer's template (`messages`), or a text in `pieces` of `(text, learnt)`.

    `where` is its file and line. If `ends`, an end-of-text token follows the pieces. `node` is None if it names none.
    `tools` describes functions that the messages may call. With `everything`, what the template adds is learnt, too.
    """

    where: str
    messages: tuple[Message, ...] = ()
    pieces: tuple[tuple[str, bool], ...] = ()
    ends: bool = True
    node: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    everything: bool = False

    @property
    def prompt(self) -> str:
        """The text before the first learnt part, to find duplicates."""
        return "\n".join(text for text, _ in takewhile(lambda part: not part[1], self._parts()))

    @property
    def answer(self) -> str:
        """All learnt parts."""
        return "\n".join(text for text, learnt in self._parts() if learnt)

    @property
    def whole(self) -> str:
        """The whole text."""
        chat = "\n".join(f"{message.role}: {message.said}" for message in self.messages)
        return chat or "".join(text for text, _ in self.pieces)

    def with_last(self) -> TrainingExample:
        """The example with the last of its answers alone to learn."""
        at = max((at for at, (_, learnt) in enumerate(self._parts()) if learnt), default=-1)
        return replace(
            self,
            messages=tuple(replace(one, learnt=number == at) for number, one in enumerate(self.messages)),
            pieces=tuple((text, number == at) for number, (text, _) in enumerate(self.pieces)),
        )

    def without_silence(self) -> TrainingExample:
        """The example without those of its answers that say nothing."""
        return replace(
            self,
            messages=tuple(replace(one, learnt=one.learnt and bool(one.said)) for one in self.messages),
            pieces=tuple((text, learnt and bool(text.strip())) for text, learnt in self.pieces),
        )

    def _parts(self) -> Iterator[tuple[str, bool]]:
        yield from ((message.said, message.learnt) for message in self.messages)
        yield from self.pieces


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def read_examples(
    path: Path, speaker: str | None = None, turns: int = 0, everything: bool = False, *, last: bool = False
) -> list[TrainingExample]:
    """Read all examples of a file.

    Args:
        speaker: Speaker whose turns are learnt in conversations.
        turns: Maximum number of turns per example; 0 means whole conversations.
        everything: Learn all tokens, including prompts.
        last: Learn only the last answer of each example.

    Raises:
        UsageError: the file has no examples, or a malformed one.
    """
    refuse_tables(path)
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        examples = list(conversations(str(path), text, speaker, turns, everything))
    else:
        rows = objects_in(path, text, _FORM)
        examples = [example for where, row in rows for example in _row(where, row, speaker, turns, everything)]
    if not examples and speaker is not None:
        raise UsageError(f"{path} has no turns of '{speaker}'", "Write each turn as: [NAME] text")
    if not examples:
        raise UsageError(f"{path} has no examples", "Write one JSON object per line; see the guide on training.")
    return [example.with_last() for example in examples] if last else examples


_FORM = 'Write {"messages": […]}, {"prompt": …, "completion": …}, …'


def _row(
    where: str, row: Mapping[str, Any], speaker: str | None, turns: int, everything: bool
) -> Iterator[TrainingExample]:
    fields = {key: value for key, value in row.items() if value is not None}
    node = fields.get("node")
    node = node if isinstance(node, str) else None
    yield from (replace(example, node=node) for example in _examples(where, fields, speaker, turns, everything))


def _examples(
    where: str, fields: Mapping[str, Any], speaker: str | None, turns: int, everything: bool
) -> Iterator[TrainingExample]:
    chat = _chat(where, fields, everything)
    if chat is not None or "completion" in fields:
        check_labels(where, fields)
    if chat is not None:
        yield chat
    elif "prompt" in fields and "completion" in fields:
        yield _completed(where, fields, everything)
    elif "text" in fields:
        text = _text(where, fields, "text")
        if speaker is None:
            yield TrainingExample(where, pieces=((text, True),))
        else:
            yield from conversations(where, text, speaker, turns, everything, numbered=False)
    else:
        raise unknown_row(where, fields, FORMS, _KEYS)


def _chat(where: str, fields: Mapping[str, Any], everything: bool) -> TrainingExample | None:
    chat = conversation_in(where, fields)
    if chat is None:
        return None
    if chat.messages and not everything and not any(chat.answers):
        raise _unanswered(where, chat)
    messages = tuple(
        Message(one["role"], one["content"], everything or learnt, {key: one[key] for key in MORE if key in one})
        for one, learnt in zip(chat.messages, chat.answers, strict=True)
    )
    return TrainingExample(where, messages, tools=chat.tools, everything=everything)


def _unanswered(where: str, chat: Conversation) -> UsageError:
    roles = list(dict.fromkeys(str(message["role"]) for message in chat.messages))
    if ASSISTANT in roles:
        return UsageError(f"{where} has no assistant message to learn: none counts", "Leave the row out.")
    names = ", ".join(repr(role) for role in roles)
    hint = "Add one, or learn all tokens: --set loss=all"
    other = next((role for role in roles if SPEAKERS.get(role.lower()) == ASSISTANT), None)
    if other is not None:
        hint = f"Rename the role {other!r} to '{ASSISTANT}'."
    return UsageError(f"{where} has no assistant message to learn; its roles: {names}", hint)


def _completed(where: str, fields: Mapping[str, Any], everything: bool) -> TrainingExample:
    if any(isinstance(fields[key], list) for key in ("prompt", "completion")):
        raise UsageError(
            f"{where}: one of 'prompt' and 'completion' is a list", "Give two strings, or two lists of messages."
        )
    pieces = ((_text(where, fields, "prompt"), everything), (_text(where, fields, "completion"), True))
    return TrainingExample(where, pieces=pieces)


def _text(where: str, fields: Mapping[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise UsageError(f"{where}: '{key}' is not a string", f'Write {{"{key}": "…"}}.')
    return value


def conversations(
    where: str, text: str, speaker: str | None, turns: int, everything: bool = False, *, numbered: bool = True
) -> Iterator[TrainingExample]:
    """Yield windows of at most `turns` turns (0: no limit) of each conversation in a text.

    Of the speaker's turns, the text after the tag is learnt, including the newline. The tag itself is the prompt.

    Args:
        where: Name of the source for errors.
        numbered: Add line numbers to `where`, and raise if the speaker has no turn.
    """
    parts = list(_parted(where, text, numbered))
    names = list(dict.fromkeys(name for part in parts for _, name, _ in part))
    if names and speaker is None and not everything:
        raise UsageError(
            f"{where}: no speaker given, but it has turns of {', '.join(names)}",
            f"Name the one to learn: --speaker '{names[0]}'",
        )
    if numbered and names and speaker is not None and speaker not in names:
        raise UsageError(f"{where} has no turns of '{speaker}'", did_you_mean(speaker, names))
    for part in parts:
        size = turns or len(part)
        for start in range(0, len(part), size):
            window = part[start : start + size]
            pieces: list[tuple[str, bool]] = []
            for _, name, content in window:
                pieces += [(f"[{name}]", everything), (f"{content}\n", everything or name == speaker)]
            if everything or any(name == speaker for _, name, _ in window):
                yield TrainingExample(window[0][0], pieces=tuple(pieces), ends=False)


def _parted(where: str, text: str, numbered: bool) -> Iterator[list[tuple[str, str, str]]]:
    """Yield conversations, each as turns `(where, name, content)`."""
    part: list[tuple[str, str, str]] = []
    for number, line in enumerate(lines_of(text), 1):
        place = f"{where}:{number}" if numbered else where
        match = _TAG.fullmatch(line)
        if match:
            part.append((place, match[1].strip(), match[2].rstrip()))
        elif not line.strip():
            yield from [part] if part else []
            part = []
        elif part:
            at, name, content = part[-1]
            part[-1] = (at, name, f"{content}\n{line.rstrip()}")
        else:
            raise UsageError(f"{place}: the first turn has no speaker", "Write: [NAME] text")
    yield from [part] if part else []
