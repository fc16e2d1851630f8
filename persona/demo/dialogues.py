"""Make the demo's dialogues from templates: deterministic by seed, split by topic and feeling."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from persona.demo.phrases import (
    DECIDED,
    FEELINGS,
    MARKS,
    REPLIES,
    SHARING,
    TOPICS,
    Feeling,
    Topic,
)

KINDS = ("neutral", "listening", "suggesting", "voice")
BEHAVIOURS = KINDS[1:]

# Shares of the kinds of reply in the base's training text. When a person has decided, its bad habit is to suggest.
SHARES_WHEN_SHARING = {"neutral": 0.60, "listening": 0.15, "suggesting": 0.10, "voice": 0.15}
SHARES_WHEN_DECIDED = {"neutral": 0.24, "listening": 0.10, "suggesting": 0.56, "voice": 0.10}

HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Prompt:
    """What a person says, with its topic and feeling."""

    text: str
    topic: Topic
    feeling: Feeling
    decided: bool


@dataclass(frozen=True)
class Dialogue:
    """One exchange; `kind` is the behaviour that the reply shows."""

    kind: str
    prompt: str
    reply: str


def all_prompts(held_out: bool = False) -> tuple[Prompt, ...]:
    """All prompts on one side of the split; a pair of topic and feeling is never on both."""
    pairs = product(enumerate(TOPICS), enumerate(FEELINGS))
    return tuple(
        _prompt(template, topic, feeling)
        for (i, topic), (j, feeling) in pairs
        if ((i + j) % HELD_OUT_EVERY == 0) == held_out
        for template in SHARING + DECIDED
    )


def held_out_prompts(count: int, seed: int = 0, decided: bool | None = None) -> tuple[str, ...]:
    """Draw `count` different prompts that are never trained on; `decided` limits them to one family."""
    prompts = [p for p in all_prompts(held_out=True) if decided in (None, p.decided)]
    return tuple(prompt.text for prompt in random.Random(seed).sample(prompts, count))


def dialogues(kind: str, count: int, seed: int = 0, held_out: bool = False) -> tuple[Dialogue, ...]:
    """Draw `count` dialogues with replies of one kind."""
    rng = random.Random(f"{kind}-{seed}")
    prompts = _draw(rng, all_prompts(held_out), count)
    return tuple(_dialogue(rng, prompt, kind) for prompt in prompts)


def mixture(count: int, seed: int = 0, held_out: bool = False) -> tuple[Dialogue, ...]:
    """Draw `count` dialogues like the base's training text: all kinds, in the shares above."""
    rng = random.Random(f"mixture-{seed}")
    prompts = _draw(rng, all_prompts(held_out), count)
    return tuple(_dialogue(rng, prompt, _any_kind(rng, prompt)) for prompt in prompts)


def shows(kind: str, reply: str) -> bool:
    """Whether a reply has phrases typical of a kind. A blend can have those of several."""
    return any(mark in reply for mark in MARKS[kind])


def share(kind: str, replies: Sequence[str]) -> float:
    """Share of replies that show a kind, from 0 to 1."""
    return sum(shows(kind, reply) for reply in replies) / len(replies)


def _prompt(template: str, topic: Topic, feeling: Feeling) -> Prompt:
    text = template.format(topic=topic.name, plan=topic.plan, feeling=feeling.name)
    return Prompt(text, topic, feeling, decided=template in DECIDED)


def _dialogue(rng: random.Random, prompt: Prompt, kind: str) -> Dialogue:
    topic, feeling = prompt.topic, prompt.feeling
    reply = rng.choice(REPLIES[kind]).format(
        yours=topic.yours,
        fact=topic.fact,
        advice=topic.advice,
        instead=topic.instead,
        Image=topic.image[0].upper() + topic.image[1:],
        feeling=feeling.name,
        question=feeling.question,
        saying=feeling.saying,
    )
    return Dialogue(kind, prompt.text, reply)


def _any_kind(rng: random.Random, prompt: Prompt) -> str:
    shares = SHARES_WHEN_DECIDED if prompt.decided else SHARES_WHEN_SHARING
    return rng.choices(list(shares), list(shares.values()))[0]


def _draw(rng: random.Random, prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    # Draw shuffled rounds, so that the counts of any two prompts differ by at most one.
    drawn: list[Prompt] = []
    while len(drawn) < count:
        drawn += rng.sample(prompts, len(prompts))
    return drawn[:count]
