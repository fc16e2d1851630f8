"""Read the messages of a conversation from JSON, as chat templates of transformers take them.

    {"role": "user", "content": "…"}                                  the form of transformers and OpenAI
    {"role": "user", "content": [{"type": "text", "text": "…"}]}      texts in parts are joined
    {"role": "assistant", "content": null, "tool_calls": […]}         arguments in a string become an object
    {"from": "human", "value": "…"}                                   ShareGPT, with its names of roles

A message for a template has a `role`, a `content` that is a string, and those of `MORE` that the row has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.jsonlines import check_characters

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Names of what a model thinks before its answer; transformers passes each on under the others, too."""

MORE = ("name", "tool_calls", "tool_call_id", *REASONING, "tool_plan")
"""Keys of a message besides its role and content that templates read."""

ASSISTANT = "assistant"

SPEAKERS = {
    "human": "user", "user": "user", "system": "system", "developer": "developer",
    "gpt": ASSISTANT, "assistant": ASSISTANT, "chatgpt": ASSISTANT, "bard": ASSISTANT, "bing": ASSISTANT,
    "model": ASSISTANT, "function_call": ASSISTANT,
    "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
"""Roles by ShareGPT's names."""

_FORM = 'Write {"role": "user", "content": "…"}.'
_CALL = 'Write {"type": "function", "function": {"name": "…", "arguments": {…}}}.'

Message = Mapping[str, Any]


def is_message(entry: object) -> bool:
    """Whether a JSON value looks like a message."""
    if not isinstance(entry, Mapping):
        return False
    key, said = ("role", ("content", "tool_calls", "function_call")) if "role" in entry else ("from", ("value",))
    return isinstance(entry.get(key), str) and any(other in entry for other in said)


def messages_in(where: str, key: str, entries: object) -> tuple[Message, ...]:
    """Read a list of messages.

    Args:
        where: Place of the row, for error messages.
        key: Key of the list in the row.
        entries: The list.

    Raises:
        UsageError: a message is malformed, or has other content than text; the error says which.
    """
    if not isinstance(entries, list):
        raise UsageError(f"{where}: '{key}' is not a list", 'Write [{"role": "user", "content": "…"}, …].')
    return tuple(_message(f"{where}: message {number} of '{key}'", entry) for number, entry in enumerate(entries, 1))


def _message(where: str, entry: object) -> Message:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} is not an object", _FORM)
    entry = {key: value for key, value in entry.items() if value is not None}
    if "from" in entry and "role" not in entry:
        entry = _of_sharegpt(where, entry)
    role = entry.get("role")
    if not isinstance(role, str) or not role:
        raise UsageError(f"{where} has no 'role'", _FORM)
    role = "tool" if role == "function" else role  # OpenAI's older name
    more: dict[str, Any] = {key: entry[key] for key in MORE if key in entry}
    for key in (*REASONING, "tool_plan"):
        if not isinstance(more.get(key, ""), str):
            raise UsageError(f"{where}: '{key}' is not a string", f'Write {{"{key}": "…"}}, or leave it out.')
    calls = more.pop("tool_calls", None) or [entry[key] for key in ("function_call",) if key in entry]
    if calls:
        more["tool_calls"] = _calls(where, calls)
    if "content" not in entry and not more.keys() - {"name", "tool_call_id"}:
        raise UsageError(f"{where} has no 'content'", _FORM)
    return {"role": role, "content": _content(where, entry.get("content", "")), **more}


def _of_sharegpt(where: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    speaker, value = entry["from"], entry.get("value")
    if not isinstance(speaker, str) or speaker not in SPEAKERS:
        raise UsageError(f"{where} is from '{speaker}', which is no role", did_you_mean(str(speaker), SPEAKERS))
    if speaker != "function_call":
        more = {key: item for key, item in entry.items() if key not in ("from", "value")}
        return {**more, "role": SPEAKERS[speaker], **({} if value is None else {"content": value})}
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        calls = None
    if calls is None:
        raise UsageError(f"{where}: its function call is not JSON", 'Write {"name": …, "arguments": {…}}.') from None
    check_characters(where, calls)
    return {"role": ASSISTANT, "tool_calls": calls if isinstance(calls, list) else [calls]}


def _content(where: str, content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        kind = "a number" if isinstance(content, int | float) else "an object"
        raise UsageError(f"{where}: its content is {kind}, not text", "Write it as a string, in quotes.")
    return "".join(_part(where, part) for part in content)


def _part(where: str, part: object) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        kind = part.get("type", "no type") if isinstance(part, Mapping) else type(part).__name__
        raise UsageError(
            f"{where} has a part that is not text ({kind})", "Leave the row out: only texts are read, no other media."
        )
    return text


def _calls(where: str, calls: object) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise UsageError(f"{where}: 'tool_calls' is not a list", _CALL)
    return [_call(where, call) for call in calls]


def _call(where: str, call: object) -> dict[str, Any]:
    """A tool call with its function in `function` and arguments that are an object."""
    wrapped = isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)
    function = call["function"] if isinstance(call, Mapping) and wrapped else call
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"{where}: a tool call has no name", _CALL)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        arguments = _parsed(where, arguments)
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where}: the arguments of '{function['name']}' are not a JSON object", _CALL)
    kept = {key: call[key] for key in ("id",) if isinstance(call, Mapping) and wrapped and call.get(key) is not None}
    return {**kept, "type": "function", "function": {"name": function["name"], "arguments": dict(arguments)}}


def _parsed(where: str, arguments: str) -> object:
    """Arguments that are JSON in a string, as OpenAI writes them; templates take an object."""
    try:
        value: object = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return None
    check_characters(where, value)
    return value


def tools_in(where: str, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Read the `tools` of a row: a list of JSON schemas, or that list as a string.

    Raises:
        UsageError: they are not a list of functions.
    """
    tools = fields.get("tools") or fields.get("functions") or []  # the latter is OpenAI's older name
    if isinstance(tools, str):
        tools = _parsed(where, tools) if tools.strip() else []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise UsageError(
            f"{where}: 'tools' is not a list of functions",
            'Write [{"type": "function", "function": {"name": "…", "parameters": {…}}}].',
        )
    return tuple({"type": "function", "function": dict(tool)} if "name" in tool else dict(tool) for tool in tools)
