"""The examples of a measure: rows of JSON, or one plain text.

    {"prompt": "…", "completion": "…"}                       the completion is the answer
    {"messages": [{"role": "user", "content": "…"}, …]}      the last one, the assistant's, is the answer
    {"text": "…"}                                            every token but the first is predicted
    {"prompt": "…"}                                          for measures that let the model reply

Instead of `messages`, a row may have a conversation in any format of :mod:`persona.inference.conversations`. Other keys of
a row are passed on to measures in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.inference.conversations import LISTS, conversation_in, unknown_row
from persona.inference.messages import Message
from persona.jsonlines import decoded, objects_in, refuse_tables

SHAPES = '{"prompt": …, "completion": …}, {"messages": […]} or {"text": …}'
FORMS = ("messages", "conversations", "instruction and output", "prompt", "text")
_KEYS = (*LISTS, "instruction", "output", "prompt", "completion", "text")


@dataclass(frozen=True)
class SuiteRow:
    """One example, and where it was read.

    Exactly one of ``prompt``, ``messages`` and ``text`` is set. ``tools`` describes functions that the messages may call.
    ``fields`` has the whole row.
    """

    where: str
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] = ()
    text: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()


def read_rows(path: Path, data: bytes) -> tuple[SuiteRow, ...]:
    """Read examples from the contents of a file.

    Raises:
        UsageError: a line is not an example (the message names it), or there are none.
    """
    refuse_tables(path)
    text = decoded(path, data)
    rows = (SuiteRow(str(path), text=text),) if path.suffix == ".txt" and text.strip() else tuple(_rows(path, text))
    if not rows:
        raise UsageError(f"{path} has no examples", f"Write one per line: {SHAPES}.")
    return rows


def _rows(path: Path, text: str) -> Iterator[SuiteRow]:
    if path.suffix != ".txt":
        yield from (_row(where, fields) for where, fields in objects_in(path, text, f"Write {SHAPES}."))


def _row(where: str, whole: Mapping[str, Any]) -> SuiteRow:
    fields = {key: value for key, value in whole.items() if value is not None}
    chat = conversation_in(where, fields)
    if chat is not None:
        if not chat.messages:
            raise UsageError(f"{where} has no messages", 'Each is {"role": "user", "content": "…"}.')
        return SuiteRow(where, messages=chat.messages, fields=whole, tools=chat.tools)
    if not {"prompt", "text"} & fields.keys():
        raise unknown_row(where, fields, FORMS, _KEYS)
    if "prompt" in fields and "text" in fields:
        raise UsageError(f"{where} has 'prompt' and 'text'", f"Write {SHAPES}.")
    for key in ("prompt", "completion", "text"):
        value = fields.get(key, "-")
        if not isinstance(value, str) or (key != "prompt" and not value.strip()):
            raise UsageError(f"{where}: '{key}' must be a non-empty string", f"Write {SHAPES}.")
    return SuiteRow(where, fields.get("prompt"), fields.get("completion"), (), fields.get("text"), whole)
