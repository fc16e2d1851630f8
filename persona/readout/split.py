"""Split texts into held-out and training texts, and the latter into folds.

Texts linked by pairs stay together as a *group*. Groups are ordered by BLAKE3(seed, text), independently of each other,
and held out one by one as long as no concept loses more than a fifth of a side. A text is on the same side of the split
for every concept. Adding a text to the data moves at most a few others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from persona.ids import draw_key
from persona.readout.labels import FEWEST, Labels

SHARE = FEWEST
"""One in this many texts is held out, and the number of folds."""


def held_out(labels: Sequence[Labels], seed: int = 0) -> frozenset[str]:
    """Choose the texts that are never trained on."""
    sides = [(concept, side) for concept in labels for side in (True, False)]
    left = Counter({(concept.concept, side): len(concept.side(side)) // SHARE for concept, side in sides})
    classes: dict[str, list[tuple[str, bool]]] = {}
    for concept, side in sides:
        for text in concept.side(side):
            classes.setdefault(text, []).append((concept.concept, side))
    chosen: set[str] = set()
    for group in groups(classes, [pair for concept in labels for pair in concept.pairs], seed):
        cost = Counter(each for text in group for each in classes[text])
        if all(count <= left[each] for each, count in cost.items()):
            left.subtract(cost)
            chosen |= set(group)
    return frozenset(chosen)


def folds(labels: Labels, seed: int = 0) -> dict[str, int]:
    """Assign texts to folds for cross-validation: pairs stay together, and each side is spread evenly over the folds."""
    most = min(SHARE, len(labels.positive), len(labels.negative))
    positive = set(labels.positive)
    fold: dict[str, int] = {}
    seen: Counter[frozenset[bool]] = Counter()
    for group in groups((*labels.positive, *labels.negative), labels.pairs, seed):
        kind = frozenset(text in positive for text in group)
        fold |= dict.fromkeys(group, seen[kind] % most)
        seen[kind] += 1
    return fold


def groups(texts: Iterable[str], pairs: Iterable[tuple[str, str]], seed: int) -> list[tuple[str, ...]]:
    """Group texts that are linked by pairs, in order of the groups' hashes."""
    leader = {text: text for text in texts}

    def first(text: str) -> str:
        while leader[text] != text:
            leader[text] = text = leader[leader[text]]
        return text

    for one, other in pairs:
        a, b = sorted((first(one), first(other)))
        leader[b] = a
    members: dict[str, list[str]] = {}
    for text in leader:
        members.setdefault(first(text), []).append(text)
    ranked = sorted(members, key=lambda text: (draw_key("split", str(seed), text), text))
    return [tuple(sorted(members[text])) for text in ranked]
