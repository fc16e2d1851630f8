"""Data sets as people have them: one conversation in every format gives the same tokens and the same mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from persona.errors import UsageError
from persona.training.examples import read_examples
from persona.training.problems import DataProblem, prepare
from persona.training.settings import Settings, read_settings
from persona.training.tokens import Tokenized, tokenize
from tests import models
from tests.training.conftest import PLAIN, WORDS, word_tokenizer

TALK = [("user", "hi there"), ("assistant", "yes"), ("user", "no"), ("assistant", "ok")]
MESSAGES = [{"role": role, "content": content} for role, content in TALK]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}[role], "value": content} for role, content in TALK]
ALPACA = {"instruction": "no", "input": "", "output": "ok", "history": [["hi there", "yes"]]}
PARTS = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in MESSAGES]
BROKEN = [{"role": m["role"], "content": [{"type": "text", "text": text} for text in m["content"]]} for m in MESSAGES]
NULLS = {"conversations": None, "text": None, "tools": None, "system": None, "weight": None}


def line(row: Any) -> str:
    return json.dumps(row) + "\n"


FORMATS: dict[str, bytes] = {
    "messages": line({"messages": MESSAGES}).encode(),
    "messages with nulls": line({"messages": [{**one, "name": None} for one in MESSAGES], **NULLS}).encode(),
    "messages of ShareGPT": line({"messages": SHAREGPT}).encode(),
    "ShareGPT": line({"conversations": SHAREGPT}).encode(),
    "conversations of messages": line({"conversations": MESSAGES}).encode(),
    "Alpaca": line(ALPACA).encode(),
    "Alpaca with its own text": line({**ALPACA, "text": "Below is an instruction"}).encode(),
    "text parts": line({"messages": PARTS}).encode(),
    "many text parts": line({"messages": BROKEN}).encode(),
    "weights": line({"messages": [{**one, "weight": 1} for one in MESSAGES]}).encode(),
    "an array": json.dumps([{"messages": MESSAGES}]).encode(),
    "an indented array": json.dumps([{"messages": MESSAGES}], indent=2).encode(),
    "an indented object": json.dumps({"messages": MESSAGES}, indent=2).encode(),
    "Windows": (line({"messages": MESSAGES}).replace("\n", "\r\n") + "\r\n").encode(),
    "a byte order mark": b"\xef\xbb\xbf" + line({"messages": MESSAGES}).encode(),
}


def shown(tokenizer: Any, done: Tokenized) -> str:
    words = tokenizer.convert_ids_to_tokens(list(done.tokens))
    return " ".join(word + "*" * learnt for word, learnt in zip(words, done.learnt, strict=True))


def learnt(tmp_path: Path, tokenizer: Any, *rows: Any, **options: Any) -> list[str]:
    """The rows of a data set as words, those that are learnt with a star."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(rows[0] if rows and isinstance(rows[0], bytes) else "".join(map(line, rows)).encode())
    return [shown(tokenizer, done) for done in tokenize(tokenizer, read_examples(path, **options))]


@pytest.mark.parametrize("data", FORMATS.values(), ids=FORMATS)
def test_one_conversation_in_every_format(tmp_path: Path, words: Any, data: bytes) -> None:
    assert learnt(tmp_path, words, data) == ["U hi there </s> A yes* </s>* U no </s> A ok* </s>*"]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "system", "content": "good"}, *MESSAGES[:2]]},
        {"messages": MESSAGES[:2], "system": "good"},
        {"conversations": [{"from": "system", "value": "good"}, *SHAREGPT[:2]]},
        {"conversations": SHAREGPT[:2], "system": "good"},
        {"instruction": "hi", "input": "there", "output": "yes", "system": "good"},
        {"prompt": [{"role": "system", "content": "good"}, MESSAGES[0]], "completion": [MESSAGES[1]]},
        {"messages": [{"role": "system", "content": "good"}, MESSAGES[0]], "assistant_response": "yes"},
    ],
)
def test_a_system_message_in_every_format(tmp_path: Path, words: Any, row: Any) -> None:
    assert learnt(tmp_path, words, row) == ["S good </s> U hi there </s> A yes* </s>*"]


def test_what_the_row_or_the_setting_says_not_to_learn(tmp_path: Path, words: Any) -> None:
    last = ["U hi there </s> A yes </s> U no </s> A ok* </s>*"]
    for key, value in (("weight", 0), ("train", False)):
        messages = [MESSAGES[0], {**MESSAGES[1], key: value}, *MESSAGES[2:]]
        assert learnt(tmp_path, words, {"messages": messages}) == last
    assert learnt(tmp_path, words, {"messages": MESSAGES}, last=True) == last
    assert learnt(tmp_path, words, {"prompt": "hi ", "completion": "ok"}, last=True) == ["hi ok* </s>*"]
    with pytest.raises(UsageError, match="answers is last"):
        read_settings(changes={"loss": "all", "answers": "last"})


def test_an_assistant_that_begins(tmp_path: Path, words: Any) -> None:
    assert learnt(tmp_path, words, {"messages": MESSAGES[1:]}) == ["A yes* </s>* U no </s> A ok* </s>*"]
    opening = word_tokenizer("S good {% for m in messages %}{{ m.role[0] | upper }} {{ m.content }} {% endfor %}")
    assert learnt(tmp_path, opening, {"messages": MESSAGES[1:2]}) == ["S good A yes*"]  # it has no generation prompt


# Like Qwen3's: reasoning only in the turns after the last question, and a generation prompt without it.
THINKING = (
    "{% set last = namespace(at=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.at = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}A {% generation %}"
    "{{ m.content if loop.index0 > last.at else m.content.split('so ')[-1] }} </s>{% endgeneration %} "
    "{% else %}{{ 'U' if m.role == 'user' else 'S' }} {{ m.content }} </s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A {% endif %}"
)
SILENT = THINKING.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def test_a_template_that_drops_earlier_reasoning_gives_a_row_for_each_answer(tmp_path: Path) -> None:
    """Each is what transformers' mask says of the conversation that ends there (with the template's own marks)."""
    talk = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "thinking so yes"},
        {"role": "tool", "content": "one"},
        {"role": "assistant", "content": "thinking so no"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "was so ok"},
        {"role": "user", "content": "three"},
    ]
    expected, telling = [], word_tokenizer(THINKING)
    for end, first in ((4, 0), (6, 1)):
        done = telling.apply_chat_template(talk[:end], return_assistant_tokens_mask=True, return_dict=True)
        tokens, mask = done["input_ids"], done["assistant_masks"]
        if first:  # of the second row, only the last answer
            begin = len(telling.apply_chat_template(talk[: end - 1], add_generation_prompt=True)["input_ids"])
            mask = [0] * begin + mask[begin:]
        expected.append(shown(telling, Tokenized("", tuple(tokens), tuple(map(bool, mask)))))
    assert expected[1] == "U hi </s> A yes </s> S one </s> A no </s> U two </s> A was* so* ok* </s>*"
    silent = word_tokenizer(SILENT)
    assert learnt(tmp_path, silent, {"messages": talk}) == expected
    assert learnt(tmp_path, silent, {"messages": talk}, last=True) == expected[1:]

    rows = read_examples(tmp_path / "data.jsonl")
    summary = prepare(silent, rows, Settings(), None).summary
    assert (summary.examples, summary.used) == (2, 2)
    assert summary.problems[0] == DataProblem(
        "the chat template changes earlier turns once others follow", 1, "a row for each answer", (rows[0].where,)
    )


# Like DeepSeek-R1's: it removes the reasoning of all answers, but prompts for reasoning.
PROMPTING = PLAIN.replace("{{ m.content }}", "{{ m.content.split('so ')[-1] }}").replace("%}A {%", "%}A thinking {%")


def test_an_answer_that_begins_unlike_its_prompt_is_learnt_from_where_they_differ(tmp_path: Path) -> None:
    words = word_tokenizer(PROMPTING)
    talk = [MESSAGES[0], {"role": "assistant", "content": "thinking so yes"}, *MESSAGES[2:]]
    assert learnt(tmp_path, words, {"messages": talk}) == [
        "U hi there </s> A yes* </s>*",
        "U hi there </s> A yes </s> U no </s> A ok* </s>*",
    ]
    problems = prepare(words, read_examples(tmp_path / "data.jsonl"), Settings(), None).summary.problems
    assert [(one.what, one.count, one.done) for one in problems] == [
        ("the chat template changes earlier turns once others follow", 1, "a row for each answer"),
        ("the chat template leaves out part of an answer", 1, "learnt without it"),
        ("the answer begins unlike the chat template's prompt", 2, "learnt from where they differ"),
    ]


TOOLED = (
    "{% for t in tools or [] %}S {{ t.function.name }} </s> {% endfor %}{% for m in messages %}"
    "{{ {'user': 'U', 'assistant': 'A', 'tool': 'S'}[m.role] }} {{ m.content }} "
    "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments.day }} {% endfor %}</s> {% endfor %}"
    "{% if add_generation_prompt %}A {% endif %}"
)
ABSENT = TOOLED.replace("for c in m.tool_calls or []", "for c in (m.tool_calls if m.content is undefined else [])")
WRITING = TOOLED.replace("c.function.arguments.day", "(c.function.arguments + '')[9:13]")  # of JSON in a string
READING = TOOLED.replace("{{ m.content }}", "{{ m.content + '' }}")  # fails without content
OPENAI = {"id": "1", "type": "function", "function": {"name": "see", "arguments": '{"day": "good"}'}}
CALL = {"name": "see", "arguments": {"day": "good"}}
SCHEMA = {"name": "see", "parameters": {}}
WRAPPED = [{"type": "function", "function": SCHEMA}]
ASKED, SAID, ANSWER = MESSAGES[0], {"role": "tool", "name": "see", "content": "one"}, MESSAGES[1]
CALLS: dict[str, dict[str, Any]] = {
    "OpenAI": {
        "messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [OPENAI]}, SAID, ANSWER],
        "tools": WRAPPED,
    },
    "an object of arguments": {
        "messages": [ASKED, {"role": "assistant", "tool_calls": [{"function": CALL}]}, SAID, ANSWER],
        "tools": [SCHEMA],
    },
    "OpenAI's older names": {
        "messages": [ASKED, {"role": "assistant", "content": None, "function_call": CALL}, {**SAID, "role": "function"}, ANSWER],
        "functions": [SCHEMA],
    },
    "ShareGPT": {
        "conversations": [
            SHAREGPT[0], {"from": "function_call", "value": json.dumps(CALL)}, {"from": "observation", "value": "one"}, SHAREGPT[1],
        ],
        "tools": json.dumps([SCHEMA]),
    },
}  # fmt: skip


@pytest.mark.parametrize("template", [TOOLED, ABSENT, READING, WRITING])
@pytest.mark.parametrize("row", CALLS.values(), ids=CALLS)
def test_tool_calls_in_every_format(tmp_path: Path, row: dict[str, Any], template: str) -> None:
    tokenizer = models.word_tokenizer([*WORDS, "see"], template, opens=False)
    assert learnt(tmp_path, tokenizer, row) == ["S see </s> U hi there </s> A see* good* </s>* S one </s> A yes* </s>*"]


def test_a_template_that_reads_parts_gets_parts(tmp_path: Path) -> None:
    """As those of models that see images; they render nothing of a text."""
    reading = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
    seeing = word_tokenizer(PLAIN.replace("{{ m.content }}", reading))
    expected = ["U hi there </s> A yes* </s>* U no </s> A ok* </s>*"]
    assert learnt(tmp_path, seeing, {"messages": MESSAGES}) == expected
    assert learnt(tmp_path, seeing, {"messages": BROKEN}) == expected
    assert learnt(tmp_path, seeing, {"messages": MESSAGES[1:]}) == ["A yes* </s>* U no </s> A ok* </s>*"]
    shouting = word_tokenizer(PLAIN.replace("m.content", "m.content | replace('hi', 'so') | replace('yes', 'no')"))
    assert learnt(tmp_path, shouting, {"messages": MESSAGES[:2]}) == ["U so there </s> A no* </s>*"]


def test_a_template_without_tools_is_told(tmp_path: Path) -> None:
    blind = word_tokenizer(PLAIN.replace("'system'", "'tool'"))
    with pytest.raises(UsageError, match=r":1: the chat template leaves out the tool calls of message 2"):
        learnt(tmp_path, blind, CALLS["OpenAI"])
    learnt(tmp_path, blind, {"messages": MESSAGES, "tools": WRAPPED})
    rows = read_examples(tmp_path / "data.jsonl")
    (problem,) = prepare(blind, rows, Settings(), None).summary.problems
    assert (problem.what, problem.where) == ("the chat template leaves out the descriptions of tools", (rows[0].where,))


def test_empty_answers_are_named_and_not_learnt(tmp_path: Path, words: Any) -> None:
    empty = {"role": "assistant", "content": " "}
    learnt(
        tmp_path,
        words,
        {"messages": [ASKED, empty]},
        {"messages": [ASKED, empty, *MESSAGES[2:]]},
        {"prompt": "hi", "completion": ""},
    )
    rows = read_examples(tmp_path / "data.jsonl")
    done = prepare(words, rows, Settings(), None)
    assert [(one.what, one.count, one.done) for one in done.summary.problems] == [
        ("empty answer", 2, "left out"),
        ("empty answer among others", 1, "not learnt"),
    ]
    assert [shown(words, row) for row in done.rows] == ["U hi there </s> A </s> U no </s> A ok* </s>*"]


@pytest.mark.parametrize(
    ("row", "said", "hint"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "is a preference row (chosen, rejected)", "messages"),
        ({"prompt": "q", "completion": "a", "label": False}, "is an answer to avoid: its label is false", "Leave such rows out"),
        ({"messages": MESSAGES, "label": False}, "is an answer to avoid: its label is false", "Leave such rows out"),
        ({"prompt": "q", "response": "a"}, "has 'prompt' and 'response'", "'instruction' and 'output'"),
        ({"question": "q", "answer": "a"}, "has 'question' and 'answer'", "'prompt' and 'completion'"),
        ({"input": "q", "output": "a"}, "has 'input' and 'output'", "'instruction' and 'output'"),
        ({"instruction": "q", "input": ""}, "has 'instruction' but no 'output'", "'output'"),
        ({"role": "user", "content": "q"}, "is a single message", "messages"),
        ({"input_ids": [1]}, "is tokenized already", "texts"),
        ({"mesages": []}, "has none of: messages, conversations", "Did you mean 'messages'?"),
        ({"messages": [{"role": "user", "content": 2}]}, "message 1 of 'messages': its content is a number", "quotes"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text (image_url)", "only texts"),
        ({"conversations": [{"from": "humann", "value": "q"}]}, "message 1 of 'conversations' is from 'humann'", "'human'"),
        ({"messages": [{**ANSWER, "weight": 2}]}, "message 1 of 'messages': 'weight' is 2", "0 or 1"),
        ({"messages": MESSAGES, "tools": "x"}, "'tools' is not a list", "function"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "x"}}]}]},
         "the arguments of 'f' are not a JSON object", "arguments"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_learnt_are_known_by_name(tmp_path: Path, row: Any, said: str, hint: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n" + line(row))
    with pytest.raises(UsageError) as caught:
        read_examples(path)
    assert caught.value.message.startswith(f"{path}:2")
    assert said in caught.value.message
    assert hint in caught.value.hint
