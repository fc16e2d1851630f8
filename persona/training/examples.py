"""Read training examples from files, as texts. Errors name the file and line.

JSONL, one object per line:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"messages": [… ending with the user], "assistant_response": "…"}      one turn of a recorded conversation
    {"prompt": "…", "completion": "…"}        plain texts, or both lists of messages
    {"text": "…"}

`"node"` names the memory-graph node of an example, if a file has examples of several; other fields are ignored. A `.txt`
file is a conversation of two or more speakers; with a speaker, so is `text` in JSONL:

    [RIYA] hey are we still going tonight?
    [FRIEND] yeah! want to meet at 7?

A line without a name continues the turn above; an empty line ends a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.jsonlines import lines_of, object_in, read_text

FORMS = ("messages", "prompt and completion", "text")
_TAG = re.compile(r"\[([^\[\]\n]{1,64})\](.*)", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One turn of a chat; `learnt` if the loss includes its tokens."""

    role: str
    content: str
    learnt: bool = False


@dataclass(frozen=True)
class TrainingExample:
    """A chat for the tokenizer's template (`messages`), or a text in `pieces` of `(text, learnt)`.

    `where` is its file and line. If `ends`, an end-of-text token follows the pieces. `node` is None if it names none.
    """

    where: str
    messages: tuple[Message, ...] = ()
    pieces: tuple[tuple[str, bool], ...] = ()
    ends: bool = True
    node: str | None = None

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
        chat = "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        return chat or "".join(text for text, _ in self.pieces)

    def _parts(self) -> Iterator[tuple[str, bool]]:
        yield from ((message.content, message.learnt) for message in self.messages)
        yield from self.pieces


def read_examples(
    path: Path, speaker: str | None = None, turns: int = 0, everything: bool = False
) -> list[TrainingExample]:
    """Read all examples of a file.

    Args:
        speaker: Speaker whose turns are learnt in conversations.
        turns: Maximum number of turns per example; 0 means whole conversations.
        everything: Learn all tokens, including prompts.

    Raises:
        UsageError: the file has no examples, or a malformed one.
    """
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        examples = list(conversations(str(path), text, speaker, turns, everything))
    else:
        lines = lines_of(path, text)
        examples = [example for where, line in lines for example in _line(where, line, speaker, turns, everything)]
    if not examples and speaker is not None:
        raise UsageError(f"{path} has no turns of '{speaker}'", "Write each turn as: [NAME] text")
    if not examples:
        raise UsageError(f"{path} has no examples", "Write one JSON object per line; see the guide on training.")
    return examples


def _line(where: str, line: str, speaker: str | None, turns: int, everything: bool) -> Iterator[TrainingExample]:
    fields = object_in(where, line, 'Write {"messages": […]}, {"prompt": …, "completion": …}, …')
    node = fields.get("node")
    node = node if isinstance(node, str) else None
    yield from (replace(example, node=node) for example in _examples(where, fields, speaker, turns, everything))


def _examples(
    where: str, fields: dict[str, Any], speaker: str | None, turns: int, everything: bool
) -> Iterator[TrainingExample]:
    if "messages" in fields:
        yield TrainingExample(where, _chat(where, fields, everything))
    elif "prompt" in fields or "completion" in fields:
        yield _completed(where, fields, everything)
    elif "text" in fields:
        text = _text(where, fields, "text")
        if speaker is None:
            yield TrainingExample(where, pieces=((text, True),))
        else:
            yield from conversations(where, text, speaker, turns, everything, numbered=False)
    else:
        close = did_you_mean(next(iter(fields), ""), ("messages", "prompt", "completion", "text"))
        raise UsageError(f"{where} has none of: {', '.join(FORMS)}", close or "Use one of these forms.")


def _chat(where: str, fields: dict[str, Any], everything: bool) -> tuple[Message, ...]:
    messages = _messages(where, fields, "messages")
    if "assistant_response" in fields:
        messages = (*messages, Message("assistant", _text(where, fields, "assistant_response")))
    if not messages:
        return ()
    if not everything and not any(message.role == "assistant" for message in messages):
        raise UsageError(f"{where} has no assistant message to learn", "Add one, or learn all tokens: --set loss=all")
    last = len(messages) - 1 if "assistant_response" in fields else None
    return tuple(
        replace(message, learnt=everything or (message.role == "assistant" if last is None else at == last))
        for at, message in enumerate(messages)
    )


def _messages(where: str, fields: dict[str, Any], key: str) -> tuple[Message, ...]:
    entries = fields[key]
    if not isinstance(entries, list):
        raise UsageError(f"{where}: '{key}' is not a list", 'Write [{"role": "user", "content": "…"}, …].')
    messages = []
    for number, entry in enumerate(entries, 1):
        role, content = (entry.get("role"), entry.get("content")) if isinstance(entry, dict) else (None, None)
        if not isinstance(role, str) or not role or not isinstance(content, str):
            raise UsageError(
                f"{where}: 'role' and 'content' of message {number} of '{key}' must be strings",
                'Write {"role": "user", "content": "…"}.',
            )
        messages.append(Message(role, content))
    return tuple(messages)


def _completed(where: str, fields: dict[str, Any], everything: bool) -> TrainingExample:
    for key in ("prompt", "completion"):
        if key not in fields:
            raise UsageError(f"{where} has no '{key}'", "Give both 'prompt' and 'completion'.")
    kinds = {isinstance(fields[key], list) for key in ("prompt", "completion")}
    if kinds == {True}:
        prompt = [replace(message, learnt=everything) for message in _messages(where, fields, "prompt")]
        completion = [replace(message, learnt=True) for message in _messages(where, fields, "completion")]
        return TrainingExample(where, (*prompt, *completion))
    if kinds == {True, False}:
        raise UsageError(
            f"{where}: one of 'prompt' and 'completion' is a list", "Give two strings, or two lists of messages."
        )
    pieces = ((_text(where, fields, "prompt"), everything), (_text(where, fields, "completion"), True))
    return TrainingExample(where, pieces=pieces)


def _text(where: str, fields: dict[str, Any], key: str) -> str:
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
    for number, line in enumerate(text.splitlines(), 1):
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
