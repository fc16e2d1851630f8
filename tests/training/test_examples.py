"""Files of examples: every form, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from persona.errors import UsageError
from persona.training.examples import Message, TrainingExample, read_examples

USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}


def written(tmp_path: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_the_forms(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"messages": [USER, ASSISTANT], "id": 7},
        "",
        {"messages": [USER, ASSISTANT, USER], "assistant_response": "no", "limbic_state_before": {"v": 0.1}},
        {"prompt": "hi", "completion": " yes"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"text": "all of it"},
    )
    user, said = Message("user", "hi"), Message("assistant", "yes", True)
    unlearnt = Message("assistant", "yes")
    assert read_examples(path) == [
        TrainingExample(f"{path}:1", (user, said)),
        TrainingExample(f"{path}:3", (user, unlearnt, user, Message("assistant", "no", True))),
        TrainingExample(f"{path}:4", pieces=(("hi", False), (" yes", True))),
        TrainingExample(f"{path}:5", (user, said)),
        TrainingExample(f"{path}:6", pieces=(("all of it", True),)),
    ]


def test_everything_may_be_learnt(tmp_path: Path) -> None:
    path = written(tmp_path, {"messages": [USER]}, {"prompt": "hi", "completion": "yes"})
    one, two = read_examples(path, everything=True)
    assert one.messages == (Message("user", "hi", True),)
    assert two.pieces == (("hi", True), ("yes", True))


CHAT = """[RIYA] hey are we on
[FRIEND] yeah
sure
[RIYA] see you

[FRIEND] hey
[RIYA] ok
"""


def test_two_speakers(tmp_path: Path) -> None:
    path = written(tmp_path, CHAT, name="chat.txt")
    first, second = read_examples(path, "FRIEND")
    assert first.where == f"{path}:1"
    assert first.pieces == (
        ("[RIYA]", False), (" hey are we on\n", False), ("[FRIEND]", False), (" yeah\nsure\n", True),
        ("[RIYA]", False), (" see you\n", False),
    )  # fmt: skip
    assert (first.ends, second.where, second.answer) == (False, f"{path}:6", " hey\n")
    windows = read_examples(path, "RIYA", turns=2)
    assert [one.answer for one in windows] == [" hey are we on\n", " see you\n", " ok\n"]
    assert all(learnt for one in read_examples(path, everything=True) for _, learnt in one.pieces)


def test_two_speakers_in_jsonl(tmp_path: Path) -> None:
    (one,) = read_examples(written(tmp_path, {"text": CHAT.split("\n\n")[0]}), "RIYA")
    assert one.answer == " hey are we on\n\n see you\n"


def _called(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ({"mesages": []}, "has none of: messages, conversations, instruction and output, prompt and completion, text"),
        ({"messages": "hi"}, "'messages' is not a list"),
        ({"messages": [{"role": "user"}]}, ": message 1 of 'messages' has no 'content'"),
        ({"messages": [USER]}, "has no assistant message to learn; its roles: 'user'"),
        ({"messages": [USER, {**ASSISTANT, "weight": 0}]}, "has no assistant message to learn: none counts"),
        ({"messages": [USER], "tools": '[{"name": "\\ud800"}]'}, "has \\ud800 alone"),
        ({"messages": [USER, _called('{"a": "\\ud800"}')]}, "has \\ud800 alone"),
        ({"messages": [USER, _called('{"\\ud800": 1}')]}, "has \\ud800 alone"),
        ({"conversations": [{"from": "function_call", "value": '{"name": "\\udc00"}'}]}, "has \\udc00 alone"),
        (
            {"messages": [USER, {**ASSISTANT, "thinking": {"a": 1}}]},
            "message 2 of 'messages': 'thinking' is not a string",
        ),
        ({"data": [{"messages": [USER, ASSISTANT]}]}, "has a list of rows in 'data'"),
        ({"prompt": "hi"}, "has no 'completion'"),
        ({"completion": "hi"}, "has no 'prompt'"),
        ({"prompt": "hi", "completion": [ASSISTANT]}, "one of 'prompt' and 'completion' is a list"),
        ({"text": 3}, "'text' is not a string"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, row: Any, said: str) -> None:
    path = written(tmp_path, {"text": "fine"}, "", row)
    with pytest.raises(UsageError) as caught:
        read_examples(path)
    assert caught.value.message.startswith(f"{path}:3")
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("role", ["gpt", "Assistant", "model"])
def test_another_name_of_the_assistant(tmp_path: Path, role: str) -> None:
    with pytest.raises(UsageError, match=f"its roles: 'user', '{role}'") as caught:
        read_examples(written(tmp_path, {"messages": [USER, {"role": role, "content": "hi"}]}))
    assert caught.value.hint == f"Rename the role '{role}' to 'assistant'."


def test_errors_of_conversations(tmp_path: Path) -> None:
    path = written(tmp_path, CHAT, name="chat.txt")
    with pytest.raises(UsageError, match="has no turns of 'RIA'") as caught:
        read_examples(path, "RIA")
    assert "Did you mean 'RIYA'?" in caught.value.hint
    with pytest.raises(UsageError, match="no speaker given"):
        read_examples(path)
    with pytest.raises(UsageError, match=r"odd.txt:2: the first turn has no speaker"):
        read_examples(written(tmp_path, "\nhello", name="odd.txt"), "RIYA")


def test_files_without_examples(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no examples"):
        read_examples(written(tmp_path, "\n\n"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xe9"}')
    with pytest.raises(UsageError, match=r"latin.jsonl:2 is not UTF-8"):
        read_examples(tmp_path / "latin.jsonl")
