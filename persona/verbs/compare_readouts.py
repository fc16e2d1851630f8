"""How far readouts turned between two recipes: the cosine of every direction with the one before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from persona.ids import ReadoutId
from persona.recipe.changes import READOUT_RETRAINED, Change
from persona.repository import Repository
from persona.verbs.readouts import load_readout

if TYPE_CHECKING:
    from persona.readout.model import Readout


@dataclass(frozen=True)
class ReadoutDiff:
    """A readout that is another than before.

    ``cosines`` are by concept and layer, of all that either has; null where one of both has no such direction.
    """

    name: str
    before: ReadoutId
    after: ReadoutId
    concepts: tuple[str, ...]
    layers: tuple[int, ...]
    cosines: tuple[tuple[float | None, ...], ...]

    @property
    def mean(self) -> float | None:
        """Of all cosines; None if no direction is there on both sides."""
        known = [one for row in self.cosines for one in row if one is not None]
        return sum(known) / len(known) if known else None


def compare_readouts(
    repo: Repository | None, changes: Iterable[Change]
) -> tuple[tuple[Change, ...], tuple[ReadoutDiff, ...]]:
    """The changes, retrained readouts with their mean cosine, and how far each turned; what is not here is left out."""
    told, found = [], []
    for change in changes:
        if repo is not None and change.kind == READOUT_RETRAINED:
            ids = (ReadoutId(change.before), ReadoutId(change.after))
            if all(one in repo.objects for one in ids):
                found.append(_compared(change.name, *ids, *(load_readout(repo, one) for one in ids)))
                change = replace(change, cosine=found[-1].mean)
        told.append(change)
    return tuple(told), tuple(found)


def _compared(name: str, before: ReadoutId, after: ReadoutId, old: Readout, new: Readout) -> ReadoutDiff:
    concepts = tuple(dict.fromkeys([*new.concepts, *old.concepts]))
    layers = tuple(sorted({*old.layers, *new.layers}))
    cosines = tuple(tuple(_cosine(old, new, concept, layer) for layer in layers) for concept in concepts)
    return ReadoutDiff(name, before, after, concepts, layers, cosines)


def _cosine(old: Readout, new: Readout, concept: str, layer: int) -> float | None:
    import numpy as np

    if any(concept not in one.concepts or layer not in one.layers for one in (old, new)) or old.hidden != new.hidden:
        return None
    a, b = (one.vectors[layer][one.row(concept)].astype(np.float64) for one in (old, new))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
