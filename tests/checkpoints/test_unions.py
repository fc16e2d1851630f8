"""The union of tokenizers, from their files: every place that lists tokens has the new ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from persona.checkpoints.unions import choose, moved_setting, unite
from persona.errors import Refusal


def token(number: int, text: str, **flags: bool) -> dict[str, Any]:
    return {"id": number, "content": text, "special": True, **flags}


def files(*added: dict[str, Any], old: bool = False, **config: Any) -> dict[str, bytes]:
    """A tokenizer of four tokens and some more; ``old`` also writes what transformers 4 did."""
    table = {
        "added_tokens": [token(0, "<s>"), *added],
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3}},
    }
    written: dict[str, Any] = {"tokenizer.json": table, "tokenizer_config.json": {"bos_token": "<s>", **config}}
    if old:
        names = [entry["content"] for entry in added]
        written["tokenizer_config.json"] |= {
            "added_tokens_decoder": {str(e["id"]): {"content": e["content"]} for e in added},
            "additional_special_tokens": names,
        }
        written["added_tokens.json"] = {entry["content"]: entry["id"] for entry in added}
    return {name: json.dumps(value).encode() for name, value in written.items()}


@pytest.mark.parametrize("old", [False, True])
def test_the_others_tokens_follow_the_owner_s(old: bool) -> None:
    one = files(token(4, "<x>"), token(5, "<y>"), old=old)
    two = files(token(4, "<z>"), token(5, "<x>"), token(6, "<w>", special=False), old=old)
    union = unite(files(), {"one": one, "two": two}, None)
    assert (union.owner, union.first, union.size) == ("one", 4, 8)
    assert union.ids == {"one": {4: 4, 5: 5}, "two": {4: 6, 5: 4, 6: 7}}
    table, config = (json.loads(union.files[name]) for name in ("tokenizer.json", "tokenizer_config.json"))
    assert [(t["id"], t["content"], t["special"]) for t in table["added_tokens"]] == [
        (0, "<s>", True), (4, "<x>", True), (5, "<y>", True), (6, "<z>", True), (7, "<w>", False)
    ]  # fmt: skip
    if old:
        assert {n: t["content"] for n, t in config["added_tokens_decoder"].items()} == {
            "4": "<x>", "5": "<y>", "6": "<z>", "7": "<w>"
        }  # fmt: skip
        assert config["additional_special_tokens"] == ["<x>", "<y>", "<z>", "<w>"]
        assert json.loads(union.files["added_tokens.json"]) == {"<x>": 4, "<y>": 5, "<z>": 6, "<w>": 7}


def test_the_owner_is_the_one_that_differs_elsewhere_or_is_named() -> None:
    one, two = files(token(4, "<x>")), files(token(4, "<z>"), eos_token="<z>")
    assert unite(files(), {"one": one, "two": two}, None).ids == {"one": {4: 5}, "two": {4: 4}}
    assert unite(files(), {"one": one, "two": two}, "one").ids == {"one": {4: 4}, "two": {4: 5}}
    assert unite(files(), {"one": one, "two": two}, "base").ids == {"one": {4: 4}, "two": {4: 5}}
    with pytest.raises(Refusal, match="differ in more than added tokens: eos_token") as caught:
        unite(files(), {"one": files(token(4, "<x>"), eos_token="<x>"), "two": two}, None)
    assert 'tokenizer = "one"' in caught.value.hint


def test_a_chosen_tokenizer_drops_the_others_tokens() -> None:
    vectors = {"one": files(token(4, "<x>")), "two": files(token(4, "<z>"), token(5, "<x>"))}
    assert choose(files(), vectors, "one").ids == {"one": {4: 4}, "two": {4: None, 5: 4}}
    assert choose(files(), vectors, "base").ids == {"one": {4: None}, "two": {4: None, 5: None}}
    assert not choose(files(), {"one": vectors["one"], "same": vectors["one"]}, "one").moves


def test_a_token_of_the_base_that_became_special_stays() -> None:
    two = files(token(1, "a"), token(4, "<z>"))
    union = unite(files(), {"one": files(token(4, "<x>")), "two": two}, None)
    listed = json.loads(union.files["tokenizer.json"])["added_tokens"]
    assert [(t["id"], t["content"]) for t in listed] == [(0, "<s>"), (1, "a"), (4, "<x>"), (5, "<z>")]


@pytest.mark.parametrize(
    ("two", "error"),
    [
        (
            {**files(), "tokenizer.json": files()["tokenizer.json"].replace(b'"c": 3', b'"c": 3, "d": 4')},
            r"changes the vocabulary of the tokenizer \('d'\)",
        ),
        (files(token(5, "<z>")), "ids of the tokens that vector 'two' added do not follow"),
        (files(token(7, "<s>")), "does not have the base's token '<s>' at its id"),
        ({**files(), "tokenizer.json": b"{}"}, "'two' has no readable tokenizer.json"),
        ({**files(), "tokenizer.json": files()["tokenizer.json"].replace(b'"content"', b'"contents"')}, "in a way"),
    ],
)
def test_what_is_refused(two: dict[str, bytes], error: str) -> None:
    with pytest.raises(Refusal, match=error):
        unite(files(), {"one": files(token(4, "<x>")), "two": two}, "one")


def test_settings_that_are_ids() -> None:
    ids = {4: 6, 5: None}
    assert [moved_setting(value, ids) for value in (4, 5, 1, [4, 5, 1], [5], [], True, None, "x")] == [
        6, None, 1, [6, 1], None, [], True, None, "x"
    ]  # fmt: skip
