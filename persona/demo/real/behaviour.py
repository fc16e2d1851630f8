"""A behaviour as data: topics, templates of prompts and replies, and the rule that recognises its replies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HELD_OUT = 6
"""Number of topics at the end of each list that are never trained on."""


@dataclass(frozen=True)
class Rule:
    """What can be seen of a behaviour in a reply.

    A reply meets it if it has a match of `matches`, none of `rejects`, and at most `max_words` words (0: any number). These
    are the settings of the measure `replies`.
    """

    matches: str
    rejects: str = ""
    max_words: int = 0

    def met(self, reply: str) -> bool:
        """Whether a reply meets the rule."""
        short = not self.max_words or len(reply.split()) <= self.max_words
        return short and bool(re.search(self.matches, reply)) and not (self.rejects and re.search(self.rejects, reply))


@dataclass(frozen=True)
class Behaviour:
    """A way of replying.

    `topics` has one row per topic, with a phrase for each of `slots`. A template may name a slot, and capitalize it by a
    capital first letter. A reply is one choice from each of `replies`, joined by spaces.
    """

    name: str
    slots: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]
    replies: tuple[tuple[str, ...], ...]
    rule: Rule

    def known(self, *, held_out: bool) -> tuple[tuple[str, ...], ...]:
        """The topics on one side of the split."""
        return self.topics[-HELD_OUT:] if held_out else self.topics[:-HELD_OUT]

    def phrases(self, topic: tuple[str, ...]) -> dict[str, str]:
        """The phrases of a topic by slot, each also with a capital letter."""
        return dict(self._phrases(topic))

    def _phrases(self, topic: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for slot, phrase in zip(self.slots, topic, strict=True):
            yield slot, phrase
            yield slot.capitalize(), phrase[:1].upper() + phrase[1:]
