"""Group labelled texts by concept and check them before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from persona.errors import UsageError, did_you_mean
from persona.readout.pairs import LabelledText

FEWEST = 5
"""Minimum number of texts on a side for holding one out; with fewer, the quality of a direction is unknown."""


@dataclass(frozen=True)
class Labels:
    """The texts of one concept by side, and its pairs `(positive, negative)`."""

    concept: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def side(self, positive: bool) -> tuple[str, ...]:
        """The texts of one side."""
        return self.positive if positive else self.negative

    def without(self, texts: frozenset[str]) -> Labels:
        """A copy without some texts and the pairs that contain them."""
        positive, negative = (tuple(text for text in self.side(side) if text not in texts) for side in (True, False))
        return Labels(self.concept, positive, negative, tuple(pair for pair in self.pairs if not texts & {*pair}))


def labels_of(
    examples: Iterable[LabelledText], concepts: Sequence[str] = (), where: str = "the pairs"
) -> tuple[Labels, ...]:
    """Group examples by concept, sorted by name.

    Args:
        concepts: Concepts to keep; by default all.
        where: Name of the source for errors.

    Raises:
        UsageError: a text is empty or on both sides, or a concept is missing or has one side only.
    """
    by_concept: dict[str, list[LabelledText]] = {}
    for example in examples:
        if not example.text.strip():
            raise UsageError(f"{where}: a text of '{example.concept}' is empty", "Remove it.")
        by_concept.setdefault(example.concept, []).append(example)
    if not by_concept:
        raise UsageError(f"{where} has no examples", "Make some with 'persona readout pairs'.")
    for name in concepts:
        if name not in by_concept:
            raise UsageError(f"{where} has no concept '{name}'", did_you_mean(name, by_concept))
    labels = tuple(_labels(name, by_concept[name], where) for name in sorted(set(concepts) or by_concept))
    check_sides(labels, where)
    return labels


def _labels(concept: str, examples: Sequence[LabelledText], where: str) -> Labels:
    sides = {
        positive: sorted({example.text for example in examples if example.positive == positive})
        for positive in (True, False)
    }
    if both := {*sides[True]} & {*sides[False]}:
        raise UsageError(
            f"{where}: a text is both a positive and a negative of '{concept}': '{min(both)[:60]}'",
            "Remove one of them.",
        )
    numbered: dict[int, tuple[list[str], list[str]]] = {}
    for example in examples:
        if example.pair is not None:
            numbered.setdefault(example.pair, ([], []))[not example.positive].append(example.text)
    pairs = {pair for both_sides in numbered.values() for pair in zip(*map(sorted, both_sides), strict=False)}
    return Labels(concept, tuple(sides[True]), tuple(sides[False]), tuple(sorted(pairs)))


def check_sides(labels: Sequence[Labels], where: str) -> None:
    """Raise UsageError if a concept has texts on one side only."""
    lone = [concept for concept in labels if not (concept.positive and concept.negative)]
    if lone:
        names = ", ".join(f"'{concept.concept}'" for concept in lone[:5]) + (", …" if len(lone) > 5 else "")
        missing = "negative" if lone[0].positive else "positive"
        raise UsageError(
            f"{where}: no {missing} texts of {names}, but a direction needs both sides",
            "Add some, or name only the other concepts with --concept NAME.",
        )
