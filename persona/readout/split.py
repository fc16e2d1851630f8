"""Which texts are held out, and which of the others are trained on together.

Texts that are tied by a pair stay together, as a *group*. Groups come in the order of BLAKE3(seed, text), which no other
text has a part in, and are held out one by one while no concept would lose more than a fifth of a side; a text is on one
side of the split for every concept. Adding a text to the data moves a few others at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from persona.ids import draw_key
from persona.readout.labels import FEWEST, Labels

SHARE = FEWEST
"""One in so many texts is held out; of fewer, none would be."""


def held_out(labels: Sequence[Labels], seed: int = 0) -> frozenset[str]:
    """The texts that are never trained on."""
    left = Counter({(one.concept, side): len(one.side(side)) // SHARE for one in labels for side in (True, False)})
    classes: dict[str, list[tuple[str, bool]]] = {}
    for one in labels:
        for side in (True, False):
            for text in one.side(side):
                classes.setdefault(text, []).append((one.concept, side))
    chosen: set[str] = set()
    for group in groups(classes, [two for one in labels for two in one.pairs], seed):
        takes = Counter(each for text in group for each in classes[text])
        if all(count <= left[each] for each, count in takes.items()):
            left.subtract(takes)
            chosen |= set(group)
    return frozenset(chosen)


def folds(labels: Labels, seed: int = 0) -> dict[str, int]:
    """The fold of each text for cross-validation, pairs together; as many of each side in every fold as can be."""
    most = min(SHARE, len(labels.positive), len(labels.negative))
    positive = set(labels.positive)
    found: dict[str, int] = {}
    seen: Counter[frozenset[bool]] = Counter()
    for group in groups((*labels.positive, *labels.negative), labels.pairs, seed):
        kind = frozenset(text in positive for text in group)
        found |= dict.fromkeys(group, seen[kind] % most)
        seen[kind] += 1
    return found


def groups(texts: Iterable[str], pairs: Iterable[tuple[str, str]], seed: int) -> list[tuple[str, ...]]:
    """Texts that belong together, in the order of their hashes."""
    leader = {text: text for text in texts}

    def first(text: str) -> str:
        while leader[text] != text:
            leader[text] = text = leader[leader[text]]
        return text

    for one, other in pairs:
        a, b = sorted((first(one), first(other)))
        leader[b] = a
    found: dict[str, list[str]] = {}
    for text in leader:
        found.setdefault(first(text), []).append(text)
    return [
        tuple(sorted(found[one])) for one in sorted(found, key=lambda one: (draw_key("split", str(seed), one), one))
    ]
