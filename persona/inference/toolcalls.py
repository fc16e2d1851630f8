"""Whether a chat template renders tool calls and descriptions of tools; many leave them out without a word.

A message that only calls a tool has no content. It is rendered with an empty text, which most templates take, or with
null, which some take for the sign of a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from persona.errors import UsageError
from persona.inference.turns import Messages, Tools, rendered

_CALLS = "tool_calls"


def with_calls(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Messages:
    """The messages in the form in which the template renders all of their tool calls.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The conversation.
        tools: Functions that the model may call.
        where: Names the text in errors.

    Raises:
        UsageError: the template leaves tool calls out.
    """
    if not any(message.get(_CALLS) for message in messages):
        return messages
    nulls = [{**one, "content": None} if one.get(_CALLS) and not one["content"] else one for one in messages]
    left_out = list(_left_out(tokenizer, messages, tools, where))
    if not left_out:
        return messages
    if _renders(tokenizer, nulls, tools, where) and not any(_left_out(tokenizer, nulls, tools, where)):
        return nulls
    raise UsageError(
        f"{where}: the chat template leaves out the tool calls of message {left_out[0]}",
        "Use a base whose template renders them, or write the calls as text in 'content'.",
    )


def leaves_out_tools(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> bool:
    """Whether the template renders the same text without `tools`."""
    return bool(tools) and rendered(tokenizer, messages, where) == rendered(tokenizer, messages, where, tools=tools)


def _left_out(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> Iterator[int]:
    """Yield the numbers of messages whose tool calls make no difference to the text."""
    whole = rendered(tokenizer, messages, where, tools=tools)
    for at, message in enumerate(messages):
        if message.get(_CALLS):
            plain = {key: value for key, value in message.items() if key != _CALLS}
            without = [*messages[:at], plain, *messages[at + 1 :]]
            if _renders(tokenizer, without, tools, where) == whole:
                yield at + 1


def _renders(tokenizer: Any, messages: Messages, tools: Tools, where: str) -> str | None:
    """The text of a conversation that the template may reject."""
    try:
        return rendered(tokenizer, messages, where, tools=tools)
    except UsageError:
        return None
