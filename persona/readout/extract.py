"""Examples from texts with scores: which texts have a concept, and which have it not.

For each concept, a text is

    positive    if its score is at least ``min_positive_score``
    negative    if its score is at most ``max_negative_score``; or if it has no score, and mentions the concept at most
                ``max_negative_mentions`` times: as a tag without a score, or as a word
    neither     otherwise

Texts that are the same but for case and blanks count once, with the scores of all of them; where those scores do not
agree on a side, it is neither. So no text is on both sides of a concept. Tags in the midst of a text are cut out: a
direction must not learn the tag.

Of more texts than ``max_examples`` a side keeps those with the lowest ranks. A text's rank is a hash of it and the seed, so
a new text takes the place of one other at most, and the concepts share their negatives, whose activations are needed once.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import combinations, islice

from persona.errors import UsageError, did_you_mean
from persona.ids import draw_key
from persona.readout.pairs import LabelledText

STRONG = 0.5
"""From this share of common positive texts on, two concepts cannot be told apart well."""

_WORD = re.compile(r"[^\W_]+")
_SCORE = re.compile(r":-?\d")


@dataclass(frozen=True)
class Item:
    """A text from anywhere, what it is called there, and its tags: a score by name, None for a tag without one."""

    name: str
    text: str
    tags: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What makes a text positive or negative, and how many are taken (see the module)."""

    min_positive_score: float = 8
    max_negative_score: float = 2
    max_negative_mentions: int = 0
    min_content_chars: int = 40
    max_examples: int = 500
    min_examples: int = 8
    seed: int = 0

    def check(self) -> None:
        """Raise for rules by which no text, or a text of both sides, could be meant."""
        if not self.max_negative_score < self.min_positive_score:  # also for NaN
            raise UsageError(
                f"a score of {self.max_negative_score:g} cannot be low where {self.min_positive_score:g} is high",
                "Give a --max-negative-score below --min-positive-score.",
            )
        if min(self.max_negative_mentions, self.min_content_chars) < 0 or self.min_examples < 1:
            raise UsageError("a number of texts, mentions or characters is negative", "Give it as 0 or more.")
        if self.max_examples < self.min_examples:
            raise UsageError(
                f"at most {self.max_examples} examples of a side, and at least {self.min_examples}, cannot both be",
                "Lower --min-examples too.",
            )


@dataclass(frozen=True)
class ConceptCounts:
    """A concept, and its examples in the file: ``positive``, ``negative``, both 0 where it has too little data.

    ``positive_found``, ``negative_found`` are the texts that there are, before the largest number; ``between`` those whose
    scores are on neither side, ``mentioned`` those that only mention it; ``by_hand`` the hand-written examples, which
    ``positive`` and ``negative`` include. ``highest`` is the highest score that a text has.
    """

    concept: str
    positive: int
    negative: int
    positive_found: int
    negative_found: int
    between: int
    mentioned: int
    by_hand: int
    highest: float | None

    @property
    def ok(self) -> bool:
        """Whether it has enough."""
        return self.positive > 0 and self.negative > 0

    @property
    def chosen(self) -> bool:
        """Whether there were more texts than are in the file."""
        return self.ok and self.positive + self.negative - self.by_hand < self.positive_found + self.negative_found


@dataclass(frozen=True)
class ConceptOverlap:
    """Two concepts that are seldom apart: ``share`` of the rarer one's positive texts are positive for the other, too."""

    first: str
    second: str
    shared: int
    share: float


@dataclass(frozen=True)
class Extracted:
    """Examples, and how they came about: ``texts`` were looked at; ``short`` were too short, ``copies`` there already."""

    examples: tuple[LabelledText, ...]
    concepts: tuple[ConceptCounts, ...]
    overlaps: tuple[ConceptOverlap, ...]
    texts: int
    short: int
    copies: int


@dataclass
class _Text:
    """A distinct text: every score that it has by concept, and how often it mentions each."""

    key: str
    name: str
    text: str
    scores: dict[str, list[float]] = field(default_factory=dict)
    mentions: Counter[str] = field(default_factory=Counter)


class _Side(Enum):
    """What a text is to a concept."""

    POSITIVE = auto()
    NEGATIVE = auto()
    BETWEEN = auto()
    MENTIONED = auto()


@dataclass(frozen=True)
class _Sides:
    """The texts of one concept, by index: all that are positive, the first that are negative, and how many are what."""

    positive: list[int]
    negative: list[int]
    negative_found: int
    between: int
    mentioned: int
    highest: float | None


def concept_name(name: str) -> str:
    """A concept as it is compared and written: composed (NFC), in lower case."""
    return unicodedata.normalize("NFC", name.strip()).lower()


def extract(
    items: Iterable[Item],
    rules: Rules | None = None,
    concepts: Sequence[str] = (),
    by_hand: Sequence[LabelledText] = (),
) -> Extracted:
    """Examples of the given concepts, or of all that have a score or are in ``by_hand``.

    A concept of which either side has fewer than ``min_examples`` texts gets none of them. Examples that were written
    by hand are taken as they are, if there are any of both sides, and go before the same text from elsewhere.
    """
    rules = rules or Rules()
    rules.check()
    found = list(items)
    texts, short = _distinct(found, rules)
    index = _by_concept(texts)
    scored = {concept_name(name) for item in found for name, score in item.tags.items() if score is not None}
    wanted = _wanted(concepts, scored, by_hand)
    own = {name: [one for one in by_hand if one.concept == name] for name in wanted}
    numbers = {one.key: number for number, one in enumerate(texts)}
    taken = {name: {numbers[key] for one in own[name] if (key := key_of(one.text)) in numbers} for name in wanted}
    sides = {name: _sides(texts, index.get(name, []), name, rules, taken[name]) for name in wanted}
    examples = {name: _examples(texts, name, sides[name], rules, own[name]) for name in wanted}
    return Extracted(
        examples=tuple(one for name in wanted for one in examples[name]),
        concepts=tuple(_counts(name, sides[name], examples[name]) for name in wanted),
        overlaps=_overlaps({name: sides[name].positive for name in wanted if examples[name]}),
        texts=len(texts),
        short=short,
        copies=len(found) - short - len(texts),
    )


def without_tags(names: Iterable[str]) -> Callable[[str], str]:
    """A function that cuts every ``name:score`` of these names out of a text, wherever it stands."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    tag = re.compile(rf"[ \t]*(?<![\w'-])#?(?:{known}):-?\d+(?:\.\d+)?(?!\w)", re.IGNORECASE)

    def cut(text: str) -> str:
        before = None
        while known and before != text and _SCORE.search(text):  # cutting one out may make another
            before, text = text, tag.sub("", text)
        return "\n".join(line.rstrip() for line in text.split("\n")).strip()

    return cut


def _distinct(items: Iterable[Item], rules: Rules) -> tuple[list[_Text], int]:
    """Texts that are long enough, the copies of each taken together, by rank; and how many were too short."""
    items = sorted(items, key=lambda item: (item.name, item.text))
    names = {concept_name(name) for item in items for name in item.tags}
    cut, said = without_tags(names), _mentions(names)
    found: dict[str, _Text] = {}
    short = 0
    for item in items:
        text = cut(unicodedata.normalize("NFC", item.text))
        if len(text) < rules.min_content_chars or not text:
            short += 1
            continue
        key = key_of(text)
        same = found.setdefault(key, _Text(key, item.name, text))
        same.mentions |= said(item.text)
        for name, score in item.tags.items():
            if score is None:
                same.mentions[concept_name(name)] += 1
            else:
                same.scores.setdefault(concept_name(name), []).append(score)
    ranked = sorted(found, key=lambda key: (draw_key("readout", str(rules.seed), key), key))
    return [found[key] for key in ranked], short


def key_of(text: str) -> str:
    """What texts that count as the same have in common."""
    return " ".join(text.lower().split())


def _mentions(names: Iterable[str]) -> Callable[[str], Counter[str]]:
    """A function that counts how often a text has each of these names as a word, or as several."""
    spaced: dict[tuple[str, ...], list[str]] = {}
    wide = []
    for name in names:
        if any(unicodedata.east_asian_width(sign) in "WF" for sign in name):
            wide.append(name)  # written without blanks between words
        elif words := tuple(_WORD.findall(name)):
            spaced.setdefault(words, []).append(name)
    lengths = {len(words) for words in spaced}

    def count(text: str) -> Counter[str]:
        text = concept_name(text)
        words = _WORD.findall(text)
        said = Counter(run for n in lengths for run in zip(*(words[at:] for at in range(n)), strict=False))
        seen = Counter({name: number for run, number in said.items() for name in spaced.get(run, ())})
        seen.update({name: text.count(name) for name in wide if name in text})
        return seen

    return count


def _by_concept(texts: Sequence[_Text]) -> dict[str, list[int]]:
    """Which texts have a score for a concept, or mention it."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(texts):
        for name in {*one.scores, *one.mentions}:
            found.setdefault(name, []).append(number)
    return found


def _wanted(concepts: Sequence[str], scored: set[str], by_hand: Sequence[LabelledText]) -> list[str]:
    known = scored | {one.concept for one in by_hand}
    for name in map(concept_name, concepts):
        if name not in known:
            raise UsageError(f"no text has a score for '{name}'", did_you_mean(name, known))
    return sorted({concept_name(name) for name in concepts} or known)


def _sides(
    texts: Sequence[_Text], touched: Sequence[int], concept: str, rules: Rules, taken: Collection[int]
) -> _Sides:
    """Divide the texts; ``touched`` are those that score or mention the concept, ``taken`` those written by hand, too."""
    by_side: dict[_Side, list[int]] = {side: [] for side in _Side}
    for number in touched:
        if number not in taken:
            by_side[_side(texts[number], concept, rules)].append(number)
    apart = {*touched, *taken}.difference(by_side[_Side.NEGATIVE])
    negative = (number for number in range(len(texts)) if number not in apart)
    scores = [score for number in touched for score in texts[number].scores.get(concept, ())]
    return _Sides(
        positive=by_side[_Side.POSITIVE],
        negative=list(islice(negative, rules.max_examples)),
        negative_found=len(texts) - len(apart),
        between=len(by_side[_Side.BETWEEN]),
        mentioned=len(by_side[_Side.MENTIONED]),
        highest=max(scores, default=None),
    )


def _side(text: _Text, concept: str, rules: Rules) -> _Side:
    """On which side of a concept a text is that scores or mentions it."""
    scores = text.scores.get(concept)
    if not scores:
        return _Side.MENTIONED if text.mentions[concept] > rules.max_negative_mentions else _Side.NEGATIVE
    if min(scores) >= rules.min_positive_score:
        return _Side.POSITIVE
    return _Side.NEGATIVE if max(scores) <= rules.max_negative_score else _Side.BETWEEN


def _examples(
    texts: Sequence[_Text], concept: str, sides: _Sides, rules: Rules, by_hand: Sequence[LabelledText]
) -> list[LabelledText]:
    """Those that go into the file: positives, negatives, each by the name of the node; then what was written by hand."""
    found = []
    if min(len(sides.positive), sides.negative_found) >= rules.min_examples:
        for positive, numbers in ((True, sides.positive), (False, sides.negative)):
            chosen = sorted((texts[number] for number in numbers[: rules.max_examples]), key=lambda one: one.name)
            found += [LabelledText(concept, positive, one.text, one.name) for one in chosen]
    both = len({one.positive for one in by_hand}) == 2
    return found + (list(by_hand) if found or both else [])


def _counts(concept: str, sides: _Sides, examples: Sequence[LabelledText]) -> ConceptCounts:
    positive = sum(one.positive for one in examples)
    return ConceptCounts(
        concept=concept,
        positive=positive,
        negative=len(examples) - positive,
        positive_found=len(sides.positive),
        negative_found=sides.negative_found,
        between=sides.between,
        mentioned=sides.mentioned,
        by_hand=sum(one.node is None for one in examples),
        highest=sides.highest,
    )


def _overlaps(positive: Mapping[str, Sequence[int]]) -> tuple[ConceptOverlap, ...]:
    """Concepts with many positive texts in common, the closest first."""
    found = []
    sets = {name: set(numbers) for name, numbers in positive.items() if numbers}
    for first, second in combinations(sets, 2):
        shared = len(sets[first] & sets[second])
        share = shared / min(len(sets[first]), len(sets[second]))
        if share >= STRONG:
            found.append(ConceptOverlap(first, second, shared, share))
    return tuple(sorted(found, key=lambda one: (-one.share, -one.shared, one.first, one.second)))
