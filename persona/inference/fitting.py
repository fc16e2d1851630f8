"""Fit messages to what a chat template reads; many templates leave out what they do not expect, without a word.

- A content is a text. Templates of models that also see images may read a list of parts only, and render nothing of a
  text.
- A message that only calls a tool is rendered without content, as transformers renders it (5.23 drops nulls), or with an
  empty text, for templates that always read one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from persona.errors import UsageError
from persona.inference.turns import Messages, Tools, rendered

_CALLS = "tool_calls"


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
    contents = [content for message in messages if (content := message["content"].strip())]
    text = _rendered(tokenizer, messages, tools, where)
    if not contents or any(content in text for content in contents):
        return messages
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
    text = _rendered(tokenizer, parts, tools, where)
    written_out = re.search("""['"]type['"]: ['"]text['"]""", text)  # the list itself
    return parts if all(content in text for content in contents) and not written_out else messages


def _with_calls(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Messages:
    if not any(message.get(_CALLS) for message in messages):
        return messages
    bare = [_without(one, "content") if one.get(_CALLS) and not one["content"] else one for one in messages]
    if _rendered(tokenizer, bare, tools, where) and not any(_left_out(tokenizer, bare, tools, where)):
        return bare
    left_out = list(_left_out(tokenizer, messages, tools, where))
    if not left_out:
        return messages
    raise UsageError(
        f"{where}: the chat template leaves out the tool calls of message {left_out[0]}",
        "Use a base whose template renders them, or write the calls as text in 'content'.",
    )


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
