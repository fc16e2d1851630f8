"""Read conversations from rows of JSON, in the formats that data sets have.

    {"messages": […]}                                       OpenAI, transformers, TRL
    {"messages": […], "assistant_response": "…"}            one turn of a recorded conversation
    {"prompt": […], "completion": […]}                      TRL; two lists of messages
    {"conversations": [{"from": "human", "value": "…"}]}    ShareGPT
    {"instruction": "…", "input": "…", "output": "…"}       Alpaca, with "history" and "system"

`messages` and `conversations` may both have messages of either kind (`persona.inference.messages`). In all of them,
`tools` describes functions, and `system` is a system message that comes first. A null is the same as no key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from persona.errors import UsageError, did_you_mean
from persona.inference.messages import ASSISTANT, Message, messages_in, tools_in

LISTS = ("messages", "conversations", "conversation")
"""Keys of a list of messages."""


@dataclass(frozen=True)
class Conversation:
    """Messages, for each whether it is an answer to learn, and descriptions of tools."""

    messages: tuple[Message, ...]
    answers: tuple[bool, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


def conversation_in(where: str, fields: Mapping[str, Any]) -> Conversation | None:
    """Read the conversation of a row; None if it has none.

    Args:
        where: Place of the row, for error messages.
        fields: The row, without nulls.

    Raises:
        UsageError: the conversation is malformed.
    """
    key = next((key for key in LISTS if key in fields), None)
    if key is not None:
        messages, answers = _listed(where, fields, key)
    elif isinstance(fields.get("prompt"), list) and isinstance(fields.get("completion"), list):
        prompt, completion = (messages_in(where, key, fields[key]) for key in ("prompt", "completion"))
        messages, answers = (*prompt, *completion), (False,) * len(prompt) + (True,) * len(completion)
    elif "instruction" in fields and "output" in fields:
        messages = tuple(_of_alpaca(where, fields))
        answers = tuple(message["role"] == ASSISTANT for message in messages)
    else:
        return None
    system = _system(where, fields, messages)
    return Conversation((*system, *messages), (False,) * len(system) + answers, tools_in(where, fields))


def _listed(where: str, fields: Mapping[str, Any], key: str) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    messages = messages_in(where, key, fields[key])
    if "assistant_response" in fields:
        last = {"role": ASSISTANT, "content": _text(where, fields, "assistant_response")}
        return (*messages, last), (False,) * len(messages) + (True,)
    counts = (_counts(f"{where}: message {n} of '{key}'", entry) for n, entry in enumerate(fields[key], 1))
    answers = tuple(message["role"] == ASSISTANT and count for message, count in zip(messages, counts, strict=True))
    return messages, answers


def _counts(where: str, entry: Mapping[str, Any]) -> bool:
    """Whether a message is to be learnt: OpenAI's `weight`, or Axolotl's `train`."""
    for key in ("weight", "train"):
        value = entry.get(key)
        if value is not None:
            if not isinstance(value, int | float) or value not in (0, 1):
                raise UsageError(f"{where}: '{key}' is {value!r}", f"Set '{key}' to 0 or 1, or leave it out.")
            return bool(value)
    return True


def _of_alpaca(where: str, fields: Mapping[str, Any]) -> Iterator[Message]:
    history = fields.get("history") or []
    if not isinstance(history, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in history):
        raise UsageError(f"{where}: 'history' is not a list of pairs", 'Write [["question", "answer"], …].')
    asked = [text for text in (_text(where, fields, key) for key in ("instruction", "input") if key in fields) if text]
    for question, answer in [*history, ["\n".join(asked), _text(where, fields, "output")]]:
        if not isinstance(question, str) or not isinstance(answer, str):
            raise UsageError(f"{where}: 'history' has something that is not text", 'Write [["question", "answer"], …].')
        yield {"role": "user", "content": question}
        yield {"role": ASSISTANT, "content": answer}


def _system(where: str, fields: Mapping[str, Any], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system message that a row has beside its messages."""
    if not fields.get("system"):
        return ()
    text = _text(where, fields, "system")
    if any(message["role"] == "system" for message in messages):
        raise UsageError(f"{where} has 'system', and a system message as well", "Keep one of them.")
    return ({"role": "system", "content": text},)


def _text(where: str, fields: Mapping[str, Any], key: str) -> str:
    value = fields[key]
    if not isinstance(value, str):
        raise UsageError(f"{where}: '{key}' is not a string", f'Write {{"{key}": "…"}}.')
    return value


_KEEP = 'Keep the answer to learn: {"prompt": "…", "completion": "…"} or {"messages": […]}.'
_RENAME = (
    "Rename them 'instruction' and 'output' for turns of a chat, or 'prompt' and 'completion' for plain texts, which "
    "no template is put around."
)
_PAIRS = tuple(
    (asked, answer)
    for asked in ("question", "query", "input", "prompt", "instruction", "problem")
    for answer in ("answer", "response", "output", "solution", "completion")
)
_OTHERS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("chosen", "rejected"), "is a preference row (chosen, rejected)", _KEEP),
    (("preferred_output",), "is a preference row (preferred_output)", _KEEP),
    (("completions", "labels"), "is a row of stepwise supervision (completions, labels)", _KEEP),
    (("body", "custom_id"), "is a request of OpenAI's Batch API", "Write its messages and the answer as 'messages'."),
    (("contents",), "is in the format of Vertex AI (contents)", 'Write {"messages": [{"role": …, "content": …}]}.'),
    (("input_ids",), "is tokenized already", "Give the texts: 'train' tokenizes them for the base."),
    (("role", "content"), "is a single message", 'Put the messages of a conversation in one row: {"messages": […]}.'),
    (
        ("from", "value"),
        "is a single message",
        'Put the messages of a conversation in one row: {"conversations": […]}.',
    ),
    *(((asked, answer), f"has '{asked}' and '{answer}'", _RENAME) for asked, answer in _PAIRS),
    (("instruction",), "has 'instruction' but no 'output'", "Give the answer to learn as 'output'."),
    (("output",), "has 'output' but no 'instruction'", "Give what is asked as 'instruction'."),
    (("completion",), "has no 'prompt'", "Give both 'prompt' and 'completion'."),
    (("prompt",), "has no 'completion'", "Give both 'prompt' and 'completion'."),
)
"""Keys of rows that are not read, what such a row is, and what to do."""


def check_labels(where: str, fields: Mapping[str, Any]) -> None:
    """Raise for an answer that is one to avoid: a row of unpaired preferences (KTO) with a label that is false."""
    if fields.get("label") is False:
        raise UsageError(
            f"{where} is an answer to avoid: its label is false",
            "Leave such rows out, or remove 'label' if it means something else.",
        )


def unknown_row(where: str, fields: Mapping[str, Any], forms: tuple[str, ...], keys: tuple[str, ...]) -> UsageError:
    """An error for a row in no known format, with a hint for those that are known by name.

    Args:
        where: Place of the row.
        fields: The row, without nulls.
        forms: Formats that the caller reads, for the message.
        keys: Keys of these formats, to find misspellings.
    """
    for needed, what, hint in _OTHERS:
        if fields.keys() >= {*needed}:
            return UsageError(f"{where} {what}", hint)
    for key, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping) and value[0].keys() & {*keys}:
            return UsageError(f"{where} has a list of rows in '{key}'", f"Write the list alone: jq '.[\"{key}\"]' FILE")
    close = (did_you_mean(key, keys) for key in fields)
    hint = next((text for text in close if text.startswith("Did you mean")), "Use one of these formats.")
    return UsageError(f"{where} has none of: {', '.join(forms)}", hint)
