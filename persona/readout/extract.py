"""Choose positive and negative examples of concepts from scored texts.

For each concept, a text is

    positive    if its score is at least `min_positive_score`
    negative    if its score is at most `max_negative_score`; or if it has no score and mentions the concept, as a tag
                without a score or as a word, at most `max_negative_mentions` times
    neither     otherwise

Texts that differ only in case and whitespace count as one text with all of their scores. If those scores disagree on the
side, the text is neither, so no text is on both sides of a concept. Tags inside a text are removed, so that a direction
does not learn the tag itself.

If a side has more than `max_examples` texts, those with the lowest ranks are kept. The rank is a hash of the text and the
seed: adding a text displaces at most one other, and concepts share most negatives, so fewer activations are captured.
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
"""Share of common positive texts from which two concepts are reported as overlapping."""

_WORD = re.compile(r"[^\W_]+")
_SCORE = re.compile(r":-?\d")


@dataclass(frozen=True)
class Item:
    """A text, its name in its source, and its tags: scores by name, None for a tag without a score."""

    name: str
    text: str
    tags: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """How texts are divided into positive and negative ones, and how many of them are used (see the module).

    `min_content_chars` is the minimum length of a text without its tags. `min_examples` and `max_examples` limit the
    texts per side of a concept.
    """

    min_positive_score: float = 8
    max_negative_score: float = 2
    max_negative_mentions: int = 0
    min_content_chars: int = 40
    max_examples: int = 500
    min_examples: int = 8
    seed: int = 0

    def check(self) -> None:
        """Raise UsageError if the rules contradict each other."""
        if not self.max_negative_score < self.min_positive_score:  # also for NaN
            raise UsageError(
                f"max_negative_score {self.max_negative_score:g} is not below "
                f"min_positive_score {self.min_positive_score:g}",
                "Give a --max-negative-score below --min-positive-score.",
            )
        if min(self.max_negative_mentions, self.min_content_chars) < 0 or self.min_examples < 1:
            raise UsageError(
                "max_negative_mentions and min_content_chars must be at least 0, min_examples at least 1",
                "Give larger numbers.",
            )
        if self.max_examples < self.min_examples:
            raise UsageError(
                f"max_examples {self.max_examples} is below min_examples {self.min_examples}",
                "Lower --min-examples too.",
            )


@dataclass(frozen=True)
class ConceptCounts:
    """How many examples of a concept are in the file, and where the others went.

    `positive` and `negative` count the examples in the file; both are 0 if the concept has too little data. They include
    `by_hand` hand-written ones. `positive_found` and `negative_found` count the texts available before the limit on
    examples, `between` those with a score on neither side, and `mentioned` those that only mention the concept.
    `highest` is the highest score of any text.
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
        """Whether there are enough examples."""
        return self.positive > 0 and self.negative > 0

    @property
    def chosen(self) -> bool:
        """Whether more texts were available than are in the file."""
        return self.ok and self.positive + self.negative - self.by_hand < self.positive_found + self.negative_found


@dataclass(frozen=True)
class ConceptOverlap:
    """Two concepts that mostly occur together.

    `shared` texts are positive for both, which is `share` (0 to 1) of the positive texts of the rarer one.
    """

    first: str
    second: str
    shared: int
    share: float


@dataclass(frozen=True)
class Extracted:
    """Examples and their counts: `texts` distinct ones, without `short` too short ones and `copies` of others."""

    examples: tuple[LabelledText, ...]
    concepts: tuple[ConceptCounts, ...]
    overlaps: tuple[ConceptOverlap, ...]
    texts: int
    short: int
    copies: int


@dataclass
class _Text:
    """A distinct text, with all of its scores and the number of mentions by concept."""

    key: str
    name: str
    text: str
    scores: dict[str, list[float]] = field(default_factory=dict)
    mentions: Counter[str] = field(default_factory=Counter)


class _Side(Enum):
    """How a text relates to a concept."""

    POSITIVE = auto()
    NEGATIVE = auto()
    BETWEEN = auto()
    MENTIONED = auto()


@dataclass(frozen=True)
class _Sides:
    """The texts of one concept: indices of all positive and the first negative ones, and counts."""

    positive: list[int]
    negative: list[int]
    negative_found: int
    between: int
    mentioned: int
    highest: float | None


def concept_name(name: str) -> str:
    """Normalize the name of a concept: NFC, lower case, no surrounding whitespace."""
    return unicodedata.normalize("NFC", name.strip()).lower()


def extract(
    items: Iterable[Item],
    rules: Rules | None = None,
    concepts: Sequence[str] = (),
    by_hand: Sequence[LabelledText] = (),
) -> Extracted:
    """Choose examples of concepts.

    A concept with fewer than `min_examples` texts on a side gets none from `items`.

    Args:
        items: Texts with tags.
        concepts: Names of concepts; by default all that have a score or are in `by_hand`.
        by_hand: Hand-written examples, kept as they are if they cover both sides or the concept has enough other
            texts. They take precedence over the same text in `items`.

    Raises:
        UsageError: the rules contradict each other, or a concept has no score anywhere.
    """
    rules = rules or Rules()
    rules.check()
    items = list(items)
    texts, short = _distinct(items, rules)
    index = _by_concept(texts)
    scored = {concept_name(name) for item in items for name, score in item.tags.items() if score is not None}
    wanted = _wanted(concepts, scored, by_hand)
    own = {name: [example for example in by_hand if example.concept == name] for name in wanted}
    numbers = {text.key: number for number, text in enumerate(texts)}
    written = {
        name: {numbers[key] for example in own[name] if (key := key_of(example.text)) in numbers} for name in wanted
    }
    sides = {name: _sides(texts, index.get(name, []), name, rules, written[name]) for name in wanted}
    examples = {name: _examples(texts, name, sides[name], rules, own[name]) for name in wanted}
    return Extracted(
        examples=tuple(example for name in wanted for example in examples[name]),
        concepts=tuple(_counts(name, sides[name], examples[name]) for name in wanted),
        overlaps=_overlaps({name: sides[name].positive for name in wanted if examples[name]}),
        texts=len(texts),
        short=short,
        copies=len(items) - short - len(texts),
    )


def without_tags(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function that removes every `name:score` of these names from a text."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    tag = re.compile(rf"[ \t]*(?<![\w'-])#?(?:{known}):-?\d+(?:\.\d+)?(?!\w)", re.IGNORECASE)

    def cut(text: str) -> str:
        before = None
        while known and before != text and _SCORE.search(text):  # removing a tag can form another
            before, text = text, tag.sub("", text)
        return "\n".join(line.rstrip() for line in text.split("\n")).strip()

    return cut


def _distinct(items: Iterable[Item], rules: Rules) -> tuple[list[_Text], int]:
    """Merge copies of texts and drop short ones; return the texts by rank and the number of short ones."""
    items = sorted(items, key=lambda item: (item.name, item.text))
    names = {concept_name(name) for item in items for name in item.tags}
    cut, mentions = without_tags(names), _mentions(names)
    by_key: dict[str, _Text] = {}
    short = 0
    for item in items:
        text = cut(unicodedata.normalize("NFC", item.text))
        if len(text) < rules.min_content_chars or not text:
            short += 1
            continue
        key = key_of(text)
        same = by_key.setdefault(key, _Text(key, item.name, text))
        same.mentions |= mentions(item.text)
        for name, score in item.tags.items():
            if score is None:
                same.mentions[concept_name(name)] += 1
            else:
                same.scores.setdefault(concept_name(name), []).append(score)
    ranked = sorted(by_key, key=lambda key: (draw_key("readout", str(rules.seed), key), key))
    return [by_key[key] for key in ranked], short


def key_of(text: str) -> str:
    """The text without differences of case and whitespace: the same for texts that count as one."""
    return " ".join(text.lower().split())


def _mentions(names: Iterable[str]) -> Callable[[str], Counter[str]]:
    """Return a function that counts the occurrences of each name, as a word or a run of words, in a text."""
    spaced: dict[tuple[str, ...], list[str]] = {}
    wide = []
    for name in names:
        if any(unicodedata.east_asian_width(sign) in "WF" for sign in name):
            wide.append(name)  # East Asian scripts put no spaces between words
        elif words := tuple(_WORD.findall(name)):
            spaced.setdefault(words, []).append(name)
    lengths = {len(words) for words in spaced}

    def count(text: str) -> Counter[str]:
        text = concept_name(text)
        words = _WORD.findall(text)
        runs = Counter(run for n in lengths for run in zip(*(words[at:] for at in range(n)), strict=False))
        seen = Counter({name: number for run, number in runs.items() for name in spaced.get(run, ())})
        seen.update({name: text.count(name) for name in wide if name in text})
        return seen

    return count


def _by_concept(texts: Sequence[_Text]) -> dict[str, list[int]]:
    """Indices of the texts that score or mention each concept."""
    index: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        for name in {*text.scores, *text.mentions}:
            index.setdefault(name, []).append(number)
    return index


def _wanted(concepts: Sequence[str], scored: set[str], by_hand: Sequence[LabelledText]) -> list[str]:
    known = scored | {example.concept for example in by_hand}
    for name in map(concept_name, concepts):
        if name not in known:
            raise UsageError(f"no text has a score for '{name}'", did_you_mean(name, known))
    return sorted({concept_name(name) for name in concepts} or known)


def _sides(
    texts: Sequence[_Text], touched: Sequence[int], concept: str, rules: Rules, written: Collection[int]
) -> _Sides:
    """Divide the texts; `touched` ones score or mention the concept, `written` ones are also hand-written examples."""
    by_side: dict[_Side, list[int]] = {side: [] for side in _Side}
    for number in touched:
        if number not in written:
            by_side[_side(texts[number], concept, rules)].append(number)
    other = {*touched, *written}.difference(by_side[_Side.NEGATIVE])
    negative = (number for number in range(len(texts)) if number not in other)
    scores = [score for number in touched for score in texts[number].scores.get(concept, ())]
    return _Sides(
        positive=by_side[_Side.POSITIVE],
        negative=list(islice(negative, rules.max_examples)),
        negative_found=len(texts) - len(other),
        between=len(by_side[_Side.BETWEEN]),
        mentioned=len(by_side[_Side.MENTIONED]),
        highest=max(scores, default=None),
    )


def _side(text: _Text, concept: str, rules: Rules) -> _Side:
    """Classify a text that scores or mentions the concept."""
    scores = text.scores.get(concept)
    if not scores:
        return _Side.MENTIONED if text.mentions[concept] > rules.max_negative_mentions else _Side.NEGATIVE
    if min(scores) >= rules.min_positive_score:
        return _Side.POSITIVE
    return _Side.NEGATIVE if max(scores) <= rules.max_negative_score else _Side.BETWEEN


def _examples(
    texts: Sequence[_Text], concept: str, sides: _Sides, rules: Rules, by_hand: Sequence[LabelledText]
) -> list[LabelledText]:
    """The examples of a concept: positives, then negatives, each sorted by node; hand-written ones last."""
    examples = []
    if min(len(sides.positive), sides.negative_found) >= rules.min_examples:
        for positive, numbers in ((True, sides.positive), (False, sides.negative)):
            chosen = sorted((texts[number] for number in numbers[: rules.max_examples]), key=lambda text: text.name)
            examples += [LabelledText(concept, positive, text.text, text.name) for text in chosen]
    both = len({example.positive for example in by_hand}) == 2
    return examples + (list(by_hand) if examples or both else [])


def _counts(concept: str, sides: _Sides, examples: Sequence[LabelledText]) -> ConceptCounts:
    positive = sum(example.positive for example in examples)
    return ConceptCounts(
        concept=concept,
        positive=positive,
        negative=len(examples) - positive,
        positive_found=len(sides.positive),
        negative_found=sides.negative_found,
        between=sides.between,
        mentioned=sides.mentioned,
        by_hand=sum(example.node is None for example in examples),
        highest=sides.highest,
    )


def _overlaps(positive: Mapping[str, Sequence[int]]) -> tuple[ConceptOverlap, ...]:
    """Find concepts that share many positive texts, closest first."""
    overlaps = []
    sets = {name: set(numbers) for name, numbers in positive.items() if numbers}
    for first, second in combinations(sets, 2):
        shared = len(sets[first] & sets[second])
        share = shared / min(len(sets[first]), len(sets[second]))
        if share >= STRONG:
            overlaps.append(ConceptOverlap(first, second, shared, share))
    return tuple(sorted(overlaps, key=lambda pair: (-pair.share, -pair.shared, pair.first, pair.second)))
