"""Which texts a concept is trained on: what a file of pairs says, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from persona.errors import UsageError, did_you_mean
from persona.readout.pairs import LabelledText

FEWEST = 5
"""Texts of a side from which some are held out; with fewer, nothing can be said of how good a direction is."""


@dataclass(frozen=True)
class Labels:
    """One concept: its texts on either side, and those that belong together, ``(positive, negative)``."""

    concept: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]

    def side(self, positive: bool) -> tuple[str, ...]:
        """The texts of one side."""
        return self.positive if positive else self.negative

    def without(self, texts: frozenset[str]) -> Labels:
        """The same without some texts, and without the pairs that they were in."""
        positive, negative = (tuple(one for one in self.side(side) if one not in texts) for side in (True, False))
        return Labels(self.concept, positive, negative, tuple(two for two in self.pairs if not texts & {*two}))


def labels_of(
    examples: Iterable[LabelledText], concepts: Sequence[str] = (), where: str = "the pairs"
) -> tuple[Labels, ...]:
    """Every concept (or those that are named), sorted; raises for texts that nothing can be learnt from."""
    by_concept: dict[str, list[LabelledText]] = {}
    for one in examples:
        if not one.text.strip():
            raise UsageError(f"{where}: a text of '{one.concept}' is empty", "Leave it out.")
        by_concept.setdefault(one.concept, []).append(one)
    if not by_concept:
        raise UsageError(f"{where} has no examples", "Make some with 'persona readout pairs'.")
    for name in concepts:
        if name not in by_concept:
            raise UsageError(f"{where} has no concept '{name}'", did_you_mean(name, by_concept))
    found = tuple(_labels(name, by_concept[name], where) for name in sorted(set(concepts) or by_concept))
    check_sides(found, where)
    return found


def _labels(concept: str, examples: Sequence[LabelledText], where: str) -> Labels:
    sides = {positive: sorted({one.text for one in examples if one.positive == positive}) for positive in (True, False)}
    if both := {*sides[True]} & {*sides[False]}:
        raise UsageError(
            f"{where}: '{concept}' has one text as positive and as negative: '{min(both)[:60]}'", "Decide on a side."
        )
    numbered: dict[int, tuple[list[str], list[str]]] = {}
    for one in examples:
        if one.pair is not None:
            numbered.setdefault(one.pair, ([], []))[not one.positive].append(one.text)
    pairs = {two for sides_ in numbered.values() for two in zip(*map(sorted, sides_), strict=False)}
    return Labels(concept, tuple(sides[True]), tuple(sides[False]), tuple(sorted(pairs)))


def check_sides(labels: Sequence[Labels], where: str) -> None:
    """Raise if a concept has texts of one side alone."""
    lone = [one for one in labels if not (one.positive and one.negative)]
    if lone:
        names = ", ".join(f"'{one.concept}'" for one in lone[:5]) + (", …" if len(lone) > 5 else "")
        missing = "negative" if lone[0].positive else "positive"
        raise UsageError(
            f"{where}: no {missing} texts of {names}: a direction needs both sides",
            "Add some, or name the other concepts: --concept NAME.",
        )
