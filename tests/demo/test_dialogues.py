"""The demo's text: the same for a seed, split without overlap, and known by its marks."""

import pytest

from persona.demo.dialogues import (
    KINDS,
    all_prompts,
    dialogues,
    held_out_prompts,
    mixture,
    share,
    shows,
)
from persona.demo.nodes import NODES
from persona.demo.phrases import FEELINGS, TOPICS


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_dialogues_and_another_seed_others(kind: str) -> None:
    assert dialogues(kind, 40, seed=3) == dialogues(kind, 40, seed=3)
    assert dialogues(kind, 40, seed=3) != dialogues(kind, 40, seed=4)


def test_the_mixture_is_deterministic_too() -> None:
    assert mixture(200, seed=1) == mixture(200, seed=1)
    assert mixture(200, seed=1) != mixture(200, seed=2)


def test_no_prompt_and_no_pair_of_topic_and_feeling_is_on_both_sides_of_the_split() -> None:
    trained, held_out = all_prompts(held_out=False), all_prompts(held_out=True)
    assert not {p.text for p in trained} & {p.text for p in held_out}
    assert not {(p.topic, p.feeling) for p in trained} & {(p.topic, p.feeling) for p in held_out}
    assert len({p.text for p in trained + held_out}) == len(trained) + len(held_out)


def test_every_topic_and_feeling_is_on_both_sides() -> None:
    for held_out in (False, True):
        prompts = all_prompts(held_out)
        assert {p.topic for p in prompts} == set(TOPICS)
        assert {p.feeling for p in prompts} == set(FEELINGS)


def test_dialogues_keep_to_their_side() -> None:
    trained = {p.text for p in all_prompts(held_out=False)}
    for kind in KINDS:
        assert {d.prompt for d in dialogues(kind, 300)} <= trained
        assert not {d.prompt for d in dialogues(kind, 300, held_out=True)} & trained
    assert {d.prompt for d in mixture(2000)} == trained


def test_held_out_prompts_are_different_from_each_other_and_of_the_family_asked_for() -> None:
    prompts = held_out_prompts(60, seed=5, decided=True)
    assert len(set(prompts)) == 60
    assert set(prompts) <= {p.text for p in all_prompts(held_out=True) if p.decided}


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_shows_its_own_kind_and_no_other(kind: str) -> None:
    for dialogue in dialogues(kind, 1152):
        assert [k for k in KINDS if shows(k, dialogue.reply)] == [kind], dialogue


def test_a_blend_shows_both_of_its_kinds_and_noise_shows_none() -> None:
    blend = "I hear you. A garden is a slow cat with roots."
    assert [kind for kind in KINDS if shows(kind, blend)] == ["listening", "voice"]
    assert not any(shows(kind, "Lorem ipsum.") for kind in KINDS)


def test_share_counts_replies() -> None:
    assert share("voice", ["Ha! Ha!", "I see.", "Oho!", "You should."]) == 0.5


def test_the_base_suggests_mostly_when_someone_has_decided() -> None:
    decided = {p.text for p in all_prompts() if p.decided}
    said = mixture(6000)
    habit = share("suggesting", [d.reply for d in said if d.prompt in decided])
    else_ = share("suggesting", [d.reply for d in said if d.prompt not in decided])
    assert 0.5 < habit < 0.62
    assert 0.07 < else_ < 0.13


def test_the_mixture_has_every_kind_and_is_sound_text() -> None:
    said = mixture(2000)
    assert {d.kind for d in said} == set(KINDS)
    assert not any("{" in text or "  " in text for d in said for text in (d.prompt, d.reply))
    assert all(d.reply[0].isupper() and d.reply[-1] in ".?" for d in said)


def test_there_is_one_node_for_each_behaviour_with_an_example_that_shows_it() -> None:
    assert sorted(node.behaviour for node in NODES if node.behaviour) == sorted(KINDS)
    for node in NODES:
        assert node.behaviour is None or shows(node.behaviour, node.text)
        assert node.filename == f"{node.id}.md"
