"""Fit messages to what a chat template reads; many templates leave out what they do not expect, without a word.

- A content is a text. Templates of models that also see images may read a list of parts only, and render nothing of a
  text.
- A message that only calls a tool is rendered without content, as transformers renders it (5.23 drops nulls), or with an
  empty text, for templates that always read one. The arguments of a call are an object, or JSON in a string for templates
  that write them as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from persona.errors import UsageError
from persona.inference.turns import Messages, Tools, rendered

_CALLS = "tool_calls"
_MARK = "content."  # stands for a content, to see whether it is rendered


def fitted(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Messages:
    """The messages in the form of which the template renders all.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The conversation, as :mod:`persona.inference.messages` reads it.
        tools: Functions that the model may call.
        where: Names the text in errors.

    Raises:
        UsageError: the template leaves tool calls out.
    """
    return _with_calls(tokenizer, _with_contents(tokenizer, messages, tools, where), tools, where)


def leaves_out_tools(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> bool:
    """Whether the template renders the same text without `tools`."""
    return bool(tools) and rendered(tokenizer, messages, where) == rendered(tokenizer, messages, where, tools=tools)


def _with_contents(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Messages:
    """The messages with contents in parts, if the template renders none as a text and all in parts."""
    marks = {at: f"{_MARK}{at}." for at, message in enumerate(messages) if message["content"].strip()}
    marked = [{**message, "content": marks.get(at, message["content"])} for at, message in enumerate(messages)]
    text = _rendered(tokenizer, marked, tools, where)
    if not marks or any(mark in text for mark in marks.values()):
        return messages
    text = _rendered(tokenizer, [_in_parts(message) for message in marked], tools, where)
    written_out = re.search("""['"]type['"]: ['"]text['"]""", text)  # the list itself
    complete = all(mark in text for mark in marks.values()) and not written_out
    return [_in_parts(message) for message in messages] if complete else messages


def _in_parts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _with_calls(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Messages:
    if not any(message.get(_CALLS) for message in messages):
        return messages
    bare = [_without(one, "content") if one.get(_CALLS) and not one["content"] else one for one in messages]
    for form in (bare, messages, _with_texts(bare), _with_texts(messages)):
        text = _rendered(tokenizer, form, tools, where)
        if text and not any(_left_out(tokenizer, form, tools, where)) and not _has_python(form, text):
            return form
    left_out = list(_left_out(tokenizer, messages, tools, where))
    what = f"leaves out the tool calls of message {left_out[0]}" if left_out else "writes tool calls that are not JSON"
    raise UsageError(
        f"{where}: the chat template {what}",
        "Use a base whose template renders them, or write the calls as text in 'content'.",
    )


def _with_texts(messages: Messages) -> Messages:
    """The messages with the arguments of calls as JSON in a string, which some templates want."""
    return [
        {**message, _CALLS: [_with_text(call) for call in message[_CALLS]]} if message.get(_CALLS) else message
        for message in messages
    ]


def _with_text(call: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _has_python(messages: Messages, text: str) -> bool:
    """Whether a text has arguments as Python writes a dictionary, because the template writes them as they are."""
    calls = (call for message in messages for call in message.get(_CALLS, ()))
    arguments = (call["function"]["arguments"] for call in calls)
    return any(not isinstance(one, str) and one and str(one) in text for one in arguments)


def _left_out(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Iterator[int]:
    """Yield the numbers of messages whose tool calls make no difference to the text."""
    whole = rendered(tokenizer, messages, where, tools=tools)
    for at, message in enumerate(messages):
        if message.get(_CALLS):
            others = [*messages[:at], _without(message, _CALLS), *messages[at + 1 :]]
            if _rendered(tokenizer, others, tools, where) == whole:
                yield at + 1


def _without(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return {name: value for name, value in message.items() if name != key}


def _rendered(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> str:
    """The text of a conversation; empty if the template rejects it."""
    try:
        return rendered(tokenizer, messages, where, tools=tools)
    except UsageError:
        return ""
