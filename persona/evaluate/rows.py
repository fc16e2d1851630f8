"""The examples of a measure: JSON lines, or one plain text.

    {"prompt": "…", "completion": "…"}                       the completion is the answer
    {"messages": [{"role": "user", "content": "…"}, …]}      the last one, the assistant's, is the answer
    {"text": "…"}                                            every token but the first is predicted
    {"prompt": "…"}                                          for measures that let the model reply

Other keys of a line are passed on to measures in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persona.errors import UsageError
from persona.jsonlines import decoded, lines_of, object_in

SHAPES = '{"prompt": …, "completion": …}, {"messages": […]} or {"text": …}'

Message = Mapping[str, str]


@dataclass(frozen=True)
class SuiteRow:
    """One example, and where it was read.

    Exactly one of ``prompt``, ``messages`` and ``text`` is set. ``fields`` has the whole line.
    """

    where: str
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] = ()
    text: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_rows(path: Path, data: bytes) -> tuple[SuiteRow, ...]:
    """Read examples from the contents of a file.

    Raises:
        UsageError: a line is not an example (the message names it), or there are none.
    """
    text = decoded(path, data)
    rows = (SuiteRow(str(path), text=text),) if path.suffix == ".txt" and text.strip() else tuple(_lines(path, text))
    if not rows:
        raise UsageError(f"{path} has no examples", f"Write one per line: {SHAPES}.")
    return rows


def _lines(path: Path, text: str) -> Iterator[SuiteRow]:
    if path.suffix != ".txt":
        yield from (_row(where, line) for where, line in lines_of(path, text))


def _row(where: str, line: str) -> SuiteRow:
    fields = object_in(where, line, f"Write {SHAPES}.")
    shapes = [key for key in ("prompt", "messages", "text") if key in fields]
    if len(shapes) != 1:
        what = " and ".join(f"'{key}'" for key in shapes) if shapes else "none of 'prompt', 'messages' and 'text'"
        raise UsageError(f"{where} has {what}", f"Write {SHAPES}.")
    if shapes == ["messages"]:
        return SuiteRow(where, messages=_messages(where, fields["messages"]), fields=fields)
    for key in ("prompt", "completion", "text"):
        value = fields.get(key, "-")
        if not isinstance(value, str) or (key != "prompt" and not value.strip()):
            raise UsageError(f"{where}: '{key}' must be a non-empty string", f"Write {SHAPES}.")
    return SuiteRow(where, fields.get("prompt"), fields.get("completion"), (), fields.get("text"), fields)


def _messages(where: str, value: Any) -> tuple[Message, ...]:
    good = isinstance(value, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in value
    )
    if not good or not value:
        raise UsageError(f"{where}: 'messages' must be a list of messages", 'Each is {"role": "user", "content": "…"}.')
    return tuple(value)
