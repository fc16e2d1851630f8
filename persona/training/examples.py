"""Training examples from files, as texts: nothing is tokenised here. An error names file and line.

JSONL, one object a line:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"messages": [… , a user's message], "assistant_response": "…"}      a turn of a conversation that was recorded
    {"prompt": "…", "completion": "…"}        texts as they are; or both lists of messages
    {"text": "…"}

A ``"node"`` says whose example it is, where a file teaches several; other fields are left alone. A file that ends in ``.txt`` is a conversation of two (or more) speakers; a ``text`` in
JSONL is one, too, where a speaker is chosen:

    [RIYA] hey are we still going tonight?
    [FRIEND] yeah! want to meet at 7?

A line without a name goes on with the turn above it; an empty line ends a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.jsonlines import lines_of, object_in, read_text

FORMS = ("messages", "prompt and completion", "text")
_TAG = re.compile(r"\[([^\[\]\n]{1,64})\](.*)", re.DOTALL)


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``learnt`` if its tokens count."""

    role: str
    content: str
    learnt: bool = False


@dataclass(frozen=True)
class TrainingExample:
    """A chat for the tokenizer's template, or pieces of text ``(text, learnt)``; ``ends`` if an end-of-text follows.

    ``node`` is whose it says that it is, None where it does not say.
    """

    where: str
    messages: tuple[Message, ...] = ()
    pieces: tuple[tuple[str, bool], ...] = ()
    ends: bool = True
    node: str | None = None

    @property
    def prompt(self) -> str:
        """What stands before the first learnt part, for finding it elsewhere."""
        found = []
        for text, learnt in self._parts():
            if learnt:
                break
            found.append(text)
        return "\n".join(found)

    @property
    def answer(self) -> str:
        """All that is learnt."""
        return "\n".join(text for text, learnt in self._parts() if learnt)

    @property
    def whole(self) -> str:
        """All of it."""
        return "\n".join(f"{one.role}: {one.content}" for one in self.messages) or "".join(t for t, _ in self.pieces)

    def _parts(self) -> Iterator[tuple[str, bool]]:
        yield from ((one.content, one.learnt) for one in self.messages)
        yield from self.pieces


def read_examples(
    path: Path, speaker: str | None = None, turns: int = 0, everything: bool = False
) -> list[TrainingExample]:
    """Every example of a file. ``speaker`` is whose turns are learnt of a conversation; ``everything`` learns all."""
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        found = list(conversations(str(path), text, speaker, turns, everything))
    else:
        found = [one for where, said in lines_of(path, text) for one in _line(where, said, speaker, turns, everything)]
    if not found and speaker is not None:
        raise UsageError(f"{path} has no turn of '{speaker}'", "Turns are written: [NAME] what was said")
    if not found:
        raise UsageError(f"{path} has no examples", "Write one JSON object a line; see the guide on training.")
    return found


def _line(where: str, line: str, speaker: str | None, turns: int, everything: bool) -> Iterator[TrainingExample]:
    fields = object_in(where, line, 'Write {"messages": […]}, {"prompt": …, "completion": …}, …')
    node = fields.get("node")
    whose = node if isinstance(node, str) else None
    yield from (replace(one, node=whose) for one in _examples(where, fields, speaker, turns, everything))


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
        raise UsageError(f"{where} has none of {', '.join(FORMS)}", close or "Those are the forms that are read.")


def _chat(where: str, fields: dict[str, Any], everything: bool) -> tuple[Message, ...]:
    messages = _messages(where, fields, "messages")
    if "assistant_response" in fields:
        messages = (*messages, Message("assistant", _text(where, fields, "assistant_response")))
    if not messages:
        return ()
    if not everything and not any(one.role == "assistant" for one in messages):
        raise UsageError(f"{where} has no assistant's message", "That is what is learnt, unless: --set loss=all")
    last = len(messages) - 1 if "assistant_response" in fields else None
    return tuple(
        Message(one.role, one.content, everything or (one.role == "assistant" if last is None else at == last))
        for at, one in enumerate(messages)
    )


def _messages(where: str, fields: dict[str, Any], key: str) -> tuple[Message, ...]:
    said = fields[key]
    if not isinstance(said, list):
        raise UsageError(f"{where}: '{key}' is not a list", 'Write [{"role": "user", "content": "…"}, …].')
    found = []
    for number, one in enumerate(said, 1):
        role, content = (one.get("role"), one.get("content")) if isinstance(one, dict) else (None, None)
        if not isinstance(role, str) or not role or not isinstance(content, str):
            raise UsageError(
                f"{where}: message {number} of '{key}' has no role and content that are texts",
                'Write {"role": "user", "content": "…"}.',
            )
        found.append(Message(role, content))
    return tuple(found)


def _completed(where: str, fields: dict[str, Any], everything: bool) -> TrainingExample:
    for key in ("prompt", "completion"):
        if key not in fields:
            raise UsageError(f"{where} has no '{key}'", "A prompt needs a completion, and a completion a prompt.")
    kinds = {isinstance(fields[key], list) for key in ("prompt", "completion")}
    if kinds == {True}:
        asked, said = _messages(where, fields, "prompt"), _messages(where, fields, "completion")
        marked = [Message(m.role, m.content, everything) for m in asked]
        return TrainingExample(where, (*marked, *(Message(m.role, m.content, True) for m in said)))
    if kinds == {True, False}:
        raise UsageError(f"{where}: of prompt and completion one is a list, one is not", "Both are, or both are texts.")
    pieces = ((_text(where, fields, "prompt"), everything), (_text(where, fields, "completion"), True))
    return TrainingExample(where, pieces=pieces)


def _text(where: str, fields: dict[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise UsageError(f"{where}: '{key}' is not a text", f'Write {{"{key}": "…"}}.')
    return value


def conversations(
    where: str, text: str, speaker: str | None, turns: int, everything: bool = False, *, numbered: bool = True
) -> Iterator[TrainingExample]:
    """Windows of at most ``turns`` turns (0: as many as there are) of each conversation in a text.

    Of a turn of ``speaker`` what follows the tag is learnt, its line's end included; the tag is what asks for it.
    """
    parts = list(_parted(where, text, numbered))
    names = list(dict.fromkeys(name for part in parts for _, name, _ in part))
    if names and speaker is None and not everything:
        raise UsageError(
            f"{where}: whose turns are to be learnt? It has {', '.join(names)}", f"Say so: --speaker '{names[0]}'"
        )
    if numbered and names and speaker is not None and speaker not in names:
        raise UsageError(f"{where} has no turn of '{speaker}'", did_you_mean(speaker, names))
    for part in parts:
        size = turns or len(part)
        for start in range(0, len(part), size):
            window = part[start : start + size]
            pieces: list[tuple[str, bool]] = []
            for _, name, said in window:
                pieces += [(f"[{name}]", everything), (f"{said}\n", everything or name == speaker)]
            if everything or any(name == speaker for _, name, _ in window):
                yield TrainingExample(window[0][0], pieces=tuple(pieces), ends=False)


def _parted(where: str, text: str, numbered: bool) -> Iterator[list[tuple[str, str, str]]]:
    """Conversations, each as turns ``(where, name, said)``."""
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
            at, name, said = part[-1]
            part[-1] = (at, name, f"{said}\n{line.rstrip()}")
        else:
            raise UsageError(f"{place}: a turn begins with its speaker", "Write: [NAME] what was said")
    yield from [part] if part else []
