"""Which tokens somebody wrote, worked out by hand: the tokenizer's tokens are words."""

from __future__ import annotations

from typing import Any

import pytest

from persona.errors import UsageError
from persona.inference.turns import Marked, marked, rendered, spans
from tests.training.conftest import FORGETFUL, PLAIN, TELLING, WORDS, word_tokenizer

CHAT = [
    {"role": "user", "content": "hi there"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "no"},
    {"role": "assistant", "content": "ok"},
]
ANSWERS = [False, True, False, True]


def counted(template: str, messages: list[dict[str, str]] = CHAT, counts: list[bool] = ANSWERS) -> str:
    """Tokens as words, those that count with a star."""
    tokenizer = word_tokenizer(template)
    whole = rendered(tokenizer, messages, "here")
    found = spans(tokenizer, messages, counts, whole, "here", "instead")
    done = marked(tokenizer, whole, found, "here", "instead")
    return " ".join(WORDS[token] + "*" * mark for token, mark in zip(done.tokens, done.marks, strict=True))


def test_by_beginnings_and_by_the_template() -> None:
    assert counted(PLAIN) == "U hi there </s> A yes* </s>* U no </s> A ok* </s>*"
    assert counted(TELLING) == "U hi there A yes* </s>* U no A ok* </s>*"


def test_some_of_the_answers_are_found_by_beginnings_whatever_the_template_says() -> None:
    assert counted(PLAIN, counts=[False, False, False, True]) == "U hi there </s> A yes </s> U no </s> A ok* </s>*"
    assert counted(PLAIN, counts=[True, False, False, False]) == "U* hi* there* </s>* A yes </s> U no </s> A ok </s>"


def test_a_part_that_ends_in_a_blank_is_followed_by_nothing_that_counts() -> None:
    """TELLING's parts do; transformers' own mask marks all that follows the first of them."""
    talk = [*CHAT[:2], {"role": "user", "content": "good day"}]
    assert counted(TELLING, talk, [False, True, False]) == "U hi there A yes* </s>* U good day"


def test_what_cannot_be_told_is_an_error_with_the_callers_hint() -> None:
    with pytest.raises(UsageError, match="here: the chat template renders the turns up to message 2") as caught:
        counted(FORGETFUL)
    assert caught.value.hint.endswith(" instead")
    with pytest.raises(UsageError, match="here: the chat template rejects it: no"):
        rendered(word_tokenizer("{{ raise_exception('no') }}"), CHAT, "here")


def test_a_token_across_the_border_counts_and_is_told() -> None:
    assert marked(word_tokenizer(None), "hi there yes", [(6, 12)], "here", "") == Marked(
        (WORDS.index("hi"), WORDS.index("there"), WORDS.index("yes")), (False, True, True), straddles=True
    )


class Slow:
    """A tokenizer without offsets: a token for each character, or one for all of four and more."""

    is_fast = False

    def __init__(self, merges: bool) -> None:
        self.merges = merges

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [7] if self.merges and len(text) > 3 else [ord(one) for one in text]}


def test_without_offsets_beginnings_must_be_beginnings() -> None:
    assert marked(Slow(merges=False), "abcd", [(1, 3)], "here", "").marks == (False, True, True, False)
    with pytest.raises(UsageError, match="does not start and end between two tokens"):
        marked(Slow(merges=True), "abcd", [(1, 3)], "here", "instead")
