"""Make dialogues of the behaviours: deterministic by seed, and split by topic."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

from persona.demo.dialogues import Dialogue
from persona.demo.real.behaviour import Behaviour
from persona.demo.real.listening import LISTENING
from persona.demo.real.not_wrapping_up import NOT_WRAPPING_UP
from persona.demo.real.suggesting import SUGGESTING
from persona.demo.real.voice import VOICE

BEHAVIOURS = {behaviour.name: behaviour for behaviour in (LISTENING, NOT_WRAPPING_UP, VOICE, SUGGESTING)}
"""The behaviours by name; the last one is a habit to be removed."""

Topics = Sequence[tuple[str, ...]]


def dialogues(
    kind: str, count: int, seed: int = 0, *, held_out: bool = False, half: int | None = None
) -> tuple[Dialogue, ...]:
    """Draw `count` different dialogues of a kind.

    Args:
        kind: Name of the behaviour.
        count: Number of dialogues.
        seed: Random seed.
        held_out: Whether to use the topics that are never trained on.
        half: 0 or 1 for one half of the topics, so that two runs learn a behaviour from different examples.
    """
    behaviour = BEHAVIOURS[kind]
    topics = behaviour.known(held_out=held_out)
    rng = random.Random(f"{kind}-{seed}-{half}")
    asked = list(product(topics if half is None else topics[half::2], behaviour.prompts))
    drawn: dict[Dialogue, None] = {}
    while len(drawn) < count:  # in shuffled rounds, so that every prompt comes about as often
        for topic, prompt in rng.sample(asked, len(asked)):
            drawn[_dialogue(rng, behaviour, topic, prompt)] = None
    return tuple(drawn)[:count]


def prompts(kind: str, count: int, seed: int = 0) -> tuple[str, ...]:
    """Draw `count` different prompts on held-out topics."""
    behaviour = BEHAVIOURS[kind]
    asked = list(product(behaviour.known(held_out=True), behaviour.prompts))
    drawn = random.Random(f"{kind}-prompts-{seed}").sample(asked, count)
    return tuple(prompt.format(**behaviour.phrases(topic)) for topic, prompt in drawn)


def most_prompts(kind: str) -> int:
    """The number of prompts on held-out topics."""
    behaviour = BEHAVIOURS[kind]
    return len(behaviour.known(held_out=True)) * len(behaviour.prompts)


def _dialogue(rng: random.Random, behaviour: Behaviour, topic: tuple[str, ...], prompt: str) -> Dialogue:
    phrases = behaviour.phrases(topic)
    reply = " ".join(rng.choice(part) for part in behaviour.replies)
    return Dialogue(behaviour.name, prompt.format(**phrases), reply.format(**phrases))
