"""Which tokens are learnt, worked out by hand: the tokenizer's tokens are words."""

from __future__ import annotations

from typing import Any

import pytest

from persona.demo.model import build_tokenizer
from persona.errors import UsageError
from persona.training.examples import Message, TrainingExample
from persona.training.tokens import Tokenized, tokenize
from tests.training.conftest import FORGETFUL, TELLING, WORDS, word_tokenizer

CHAT = (
    Message("user", "hi there"),
    Message("assistant", "yes", True),
    Message("user", "no"),
    Message("assistant", "ok", True),
)


def shown(done: Tokenized) -> str:
    """Tokens as words; those that are learnt in capitals' stead with a star."""
    return " ".join(WORDS[token] + "*" * learnt for token, learnt in zip(done.tokens, done.learnt, strict=True))


def one(tokenizer: Any, *messages: Message, **more: Any) -> str:
    (done,) = tokenize(tokenizer, [TrainingExample("data.jsonl:1", messages, **more)])
    return shown(done)


def test_a_template_that_does_not_say_is_rendered_turn_by_turn(words: Any) -> None:
    assert one(words, *CHAT) == "U hi there </s> A yes* </s>* U no </s> A ok* </s>*"


def test_a_template_with_generation_says_it_itself() -> None:
    assert one(word_tokenizer(TELLING), *CHAT) == "U hi there A yes* </s>* U no A ok* </s>*"


def test_only_the_last_answer(words: Any) -> None:
    last = (CHAT[0], Message("assistant", "yes"), *CHAT[2:])
    assert one(words, *last) == "U hi there </s> A yes </s> U no </s> A ok* </s>*"


def test_everything(words: Any) -> None:
    every = tuple(Message(m.role, m.content, True) for m in CHAT[:2])
    assert one(words, *every) == "U* hi* there* </s>* A* yes* </s>*"


def test_a_template_that_cannot_tell_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"data.jsonl:1: the chat template renders the turns up to message 4"
    ) as caught:
        one(word_tokenizer(FORGETFUL), *CHAT)
    assert "{% generation %}" in caught.value.hint
    assert "loss=all" in caught.value.hint


def test_no_template_and_one_that_refuses() -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        one(word_tokenizer(None), *CHAT)
    with pytest.raises(UsageError, match="the chat template rejects it: roles must alternate"):
        one(word_tokenizer("{{ raise_exception('roles must alternate') }}"), *CHAT)


def test_prompt_and_completion(words: Any) -> None:
    assert one(words, pieces=(("hi there ", False), ("yes ok", True))) == "hi there yes* ok* </s>*"


def test_text(words: Any) -> None:
    assert one(words, pieces=(("hi there", True),)) == "hi* there* </s>*"
    assert one(words, pieces=(("", True),)) == ""


def test_speakers(words: Any) -> None:
    pieces = (("[RIYA]", False), (" hey\n", False), ("[FRIEND]", False), (" yeah sure\n", True), ("[RIYA]", False))
    assert one(words, pieces=pieces, ends=False) == "[RIYA] hey [FRIEND] yeah* sure* [RIYA]"


def test_a_token_across_the_border_is_learnt_and_told(words: Any) -> None:
    (done,) = tokenize(words, [TrainingExample("here", pieces=(("hi the", False), ("re yes", True)))])
    assert shown(done) == "hi there* yes* </s>*"
    assert done.straddles
    assert done.counted == 3


def test_cutting_keeps_the_answer_and_the_beginning_of_a_text() -> None:
    answer = Tokenized("", (1, 2, 3, 4), (False, False, True, True))
    assert (answer.cut(2).tokens, answer.cut(2).learnt) == ((3, 4), (True, True))
    text = Tokenized("", (1, 2, 3, 4), (False, True, True, True))  # a beginning-of-text token is not learnt
    assert text.cut(2).tokens == (1, 2)
    assert answer.cut(4) is answer


def test_a_byte_level_tokenizer_agrees_with_hand_made_spans() -> None:
    """Unicode, and tokens that are parts of words: what is learnt decodes to the answers."""
    said = ["Grüße, я 😀 there!", "and so on…"]
    tokenizer = build_tokenizer(["hello there and so on", *said], 320)
    chat = (
        Message("user", "héllo"),
        Message("assistant", said[0], True),
        Message("user", "…"),
        Message("assistant", said[1], True),
    )
    (done,) = tokenize(tokenizer, [TrainingExample("here", chat)])
    kept = [token for token, learnt in zip(done.tokens, done.learnt, strict=True) if learnt]
    assert tokenizer.decode(kept) == f" {said[0]}</s> {said[1]}</s>"


class Slow:
    """A tokenizer without offsets."""

    is_fast = False
    eos_token_id = 2

    def __init__(self, merges: bool) -> None:
        self.merges = merges

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [7] if self.merges and len(text) > 3 else [ord(one) for one in text]}


def test_without_offsets_beginnings_must_be_beginnings() -> None:
    example = TrainingExample("here", pieces=(("ab", False), ("cd", True)))
    (done,) = tokenize(Slow(merges=False), [example])
    assert (done.tokens, done.learnt) == ((97, 98, 99, 100, 2), (False, False, True, True, True))
    with pytest.raises(UsageError, match="does not start and end between two tokens"):
        tokenize(Slow(merges=True), [example])
