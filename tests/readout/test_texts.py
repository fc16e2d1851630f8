"""Texts in tokens, and which of them are the assistant's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from persona.errors import UsageError
from persona.inference.load import LoadedModel, from_folder
from persona.readout.texts import conversation, encode
from tests.readout.small import MARKED_TEMPLATE, TEMPLATE, small_model, texts

TALK = [
    {"role": "user", "content": "w1 w2"},
    {"role": "assistant", "content": "w3"},
    {"role": "user", "content": "w4"},
    {"role": "assistant", "content": "w5 w6"},
]
FORGETFUL = (  # as templates that drop the thoughts of earlier turns
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] if loop.last else 'w9' }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def live(folder: Path, template: str | None) -> LoadedModel:
    return from_folder(small_model(folder, template=template), "small")


def words(model: LoadedModel, one: Any, marks: Any = None) -> list[str]:
    """Tokens as words, those that count alone if there are marks."""
    found = model.tokenizer.convert_ids_to_tokens(list(one))
    return found if marks is None else [word for word, mark in zip(found, marks, strict=True) if mark]


def test_a_text_has_the_special_tokens_of_a_text(tmp_path: Path) -> None:
    model = live(tmp_path / "m", None)
    found = encode(model, ["w1 w2", "w3"])
    assert [words(model, one) for one in found.tokens] == [["<s>", "w1", "w2"], ["<s>", "w3"]]
    assert (found.rows, found.marks, found.cut) == ((0, 1), None, 0)


@pytest.mark.parametrize("template", [TEMPLATE, MARKED_TEMPLATE], ids=["by what comes before", "by the template"])
def test_what_the_assistant_says_is_marked(tmp_path: Path, template: str) -> None:
    model = live(tmp_path / "m", template)
    found = encode(model, [json.dumps(TALK), json.dumps(TALK[:2])], "assistant")
    assert found.marks is not None
    assert words(model, found.tokens[0]) == [
        "user",
        ":",
        "w1",
        "w2",
        "</s>",
        "assistant",
        ":",
        "w3",
        "</s>",
        "user",
        ":",
        "w4",
        "</s>",
        "assistant",
        ":",
        "w5",
        "w6",
        "</s>",
    ]
    assert words(model, found.tokens[0], found.marks[0]) == ["w3", "</s>", "w5", "w6", "</s>"]
    assert words(model, found.tokens[1], found.marks[1]) == ["w3", "</s>"]


def test_a_part_that_ends_in_a_blank_ends_with_its_last_token(tmp_path: Path) -> None:
    """No token has that blank, and transformers' own mask (5.23) runs on from there to the end of the text."""
    template = MARKED_TEMPLATE.replace("{{ eos_token }}{% endgeneration %} ", "{{ eos_token }} {% endgeneration %}")
    assert template != MARKED_TEMPLATE
    model = live(tmp_path / "m", template)
    talk = [*TALK, {"role": "user", "content": "w7 w8"}]
    found = encode(model, [json.dumps(talk)], "assistant")
    assert found.marks is not None
    assert words(model, found.tokens[0], found.marks[0]) == ["w3", "</s>", "w5", "w6", "</s>"]
    plain = encode(live(tmp_path / "plain", MARKED_TEMPLATE), [json.dumps(talk)], "assistant")
    assert plain.marks is not None
    assert (found.tokens, found.marks) == (plain.tokens, plain.marks)


def test_a_conversation_is_written_by_the_template_whatever_is_pooled(tmp_path: Path) -> None:
    model = live(tmp_path / "m", TEMPLATE)
    found = encode(model, ["w7", json.dumps(TALK[:1])], "mean")
    assert [words(model, one) for one in found.tokens] == [["<s>", "w7"], ["user", ":", "w1", "w2", "</s>"]]


@pytest.mark.parametrize(
    ("template", "text", "problem"),
    [
        (None, json.dumps(TALK), "has no chat template"),
        (TEMPLATE, "w1 w2", "'w1 w2' is not a conversation"),
        (TEMPLATE, json.dumps(TALK[:1]), "has no text by the assistant"),
        (MARKED_TEMPLATE, json.dumps(TALK[:1]), "has no text by the assistant"),
        (FORGETFUL, json.dumps(TALK), "the turns up to message 2"),
    ],
)
def test_what_cannot_be_marked_is_said(tmp_path: Path, template: str | None, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        encode(live(tmp_path / "m", template), [text], "assistant")
    assert "pooling" in caught.value.hint


def test_what_the_template_refuses_is_said_by_its_own_words(tmp_path: Path) -> None:
    model = live(tmp_path / "m", "{{ raise_exception('roles must take turns') }}")
    for pooling in ("mean", "assistant"):
        with pytest.raises(UsageError, match=r"user.*: the chat template rejects it: roles must take turns"):
            encode(model, [json.dumps(TALK)], pooling)


def test_other_kinds_of_messages_are_the_same_conversation(tmp_path: Path) -> None:
    model = live(tmp_path / "m", TEMPLATE)
    sharegpt = [{"from": {"user": "human"}.get(one["role"], "gpt"), "value": one["content"]} for one in TALK]
    parts = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in TALK]
    found = encode(model, [json.dumps(talk) for talk in (TALK, sharegpt, parts)], "assistant")
    assert found.marks is not None
    assert found.tokens[0] == found.tokens[1] == found.tokens[2]
    assert found.marks[0] == found.marks[1] == found.marks[2]


@pytest.mark.parametrize("text", ["[1, 2]", "[]", "[", '[{"role": "user"}]', '{"role": "user", "content": "x"}', "w1"])
def test_other_texts_are_no_conversations(text: str) -> None:
    assert conversation(text) is None


def test_texts_that_are_too_long(tmp_path: Path) -> None:
    model = live(tmp_path / "m", TEMPLATE)
    given = [texts(1, 1, least=70, most=80)[0], "w1"]
    with pytest.raises(UsageError, match="more than the context of small \\(64\\)"):
        encode(model, given)
    found = encode(model, given, too_long="cut")
    assert [len(one) for one in found.tokens] == [64, 2]
    assert encode(model, given, too_long="skip").rows == (1,)
    late = [{"role": "user", "content": given[0]}, {"role": "assistant", "content": "w1"}]
    with pytest.raises(UsageError, match=r"the first 64 tokens of .* have none of the assistant's"):
        encode(model, [json.dumps(late)], "assistant", "cut")


def test_a_text_without_tokens_is_named(tmp_path: Path) -> None:
    model = live(tmp_path / "m", None)
    model.tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(UsageError, match="has no tokens"):
        encode(model, [" "])
