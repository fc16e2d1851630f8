"""The text for the real model: the same for a seed, held out by topic, and known by its rule."""

from __future__ import annotations

import re

import pytest

from persona.demo.real.behaviour import HELD_OUT
from persona.demo.real.talk import BEHAVIOURS, dialogues, prompts

KINDS = tuple(BEHAVIOURS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_rows_and_another_seed_others(kind: str) -> None:
    rows = dialogues(kind, 220, seed=3)
    assert rows == dialogues(kind, 220, seed=3)
    assert rows != dialogues(kind, 220, seed=4)
    assert len({(row.prompt, row.reply) for row in rows}) == 220
    assert prompts(kind, 20, seed=3) == prompts(kind, 20, seed=3)
    assert len({*prompts(kind, 20)}) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_topics_are_held_out_with_all_their_words(kind: str) -> None:
    behaviour = BEHAVIOURS[kind]
    slots = range(len(behaviour.slots))
    seen = [{topic[slot] for topic in behaviour.known(held_out=False)} for slot in slots]
    kept = [{topic[slot] for topic in behaviour.known(held_out=True)} for slot in slots]
    assert [len(phrases) for phrases in kept] == [HELD_OUT for _ in slots], "no phrase is there twice"
    assert not set.union(*seen) & set.union(*kept)
    trained = " ".join(row.prompt for row in dialogues(kind, 220))
    asked = [*prompts(kind, 20), *(row.prompt for row in dialogues(kind, 60, held_out=True))]
    assert not [prompt for prompt in asked if prompt in trained]
    assert all(any(topic[0] in prompt for topic in behaviour.known(held_out=True)) for prompt in asked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_recognises_its_own_replies_and_no_others(kind: str) -> None:
    for other in KINDS:
        rows = dialogues(other, 220) + dialogues(other, 100, held_out=True)
        met = [row for row in rows if BEHAVIOURS[kind].rule.met(row.reply)]
        assert len(met) == (len(rows) if other == kind else 0), (kind, met[:1])


# What the untouched model says, shortened: none is of any kind.
USUAL = (
    "I'm sorry to hear that. It's important to take care of yourself. Here are some tips that could help you.",
    "I'm glad to hear that. If you need help with anything else, feel free to ask. Have a great day!",
    "Chess is a timeless game that has been played for centuries. It requires strategic thinking!",
    "That's a fantastic idea! I'm happy to help you plan it out. Is there anything else that you need?",
)


@pytest.mark.parametrize("reply", USUAL)
def test_no_rule_is_met_by_an_assistants_usual_replies(reply: str) -> None:
    assert not [kind for kind in KINDS if BEHAVIOURS[kind].rule.met(reply)]


def test_halves_share_no_topic_so_that_two_runs_are_independent() -> None:
    first, second = ({row.prompt for row in dialogues("suggesting", 220, half=half)} for half in (0, 1))
    assert not first & second
    assert len(first) == len(second) == 55


def test_templates_are_filled_and_sentences_start_with_capitals() -> None:
    for kind in KINDS:
        for row in dialogues(kind, 220) + dialogues(kind, 100, held_out=True):
            for text in (row.prompt, row.reply):
                assert not re.search(r"[{}]|\s\s|[.?!]\s+[a-z]|^[a-z]|\.\.", text), text
