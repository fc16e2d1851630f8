"""From captured texts to a readout with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.progress import Progress
from persona.readout.capturing import Captured
from persona.readout.fitting import Fitted, Taking, best_layers, fit, separations
from persona.readout.labels import Labels
from persona.readout.quality import ConceptCluster, LayerQuality, clusters, cosines, remark, verdict
from persona.readout.split import held_out

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class TrainedConcept:
    """A concept: how many texts were trained on and held out (positive, negative), and its quality by layer.

    ``best`` is the layer at which cross-validation on the texts that were trained on tells them apart best. ``verdict`` says
    why it is not worth using, ``remark`` what to be wary of; None where there is nothing of the kind.
    """

    concept: str
    trained: tuple[int, int]
    held_out: tuple[int, int]
    best: int | None
    layers: tuple[LayerQuality, ...]
    verdict: str | None
    remark: str | None


@dataclass(frozen=True)
class FittedReadout:
    """Directions by layer, what is known of each concept, and the fields of the manifest that follow from the texts."""

    layers: tuple[int, ...]
    vectors: Mapping[int, Float32]
    concepts: tuple[TrainedConcept, ...]
    clusters: tuple[ConceptCluster, ...]
    fields: Mapping[str, Any]


def train(data: Captured, taking: Taking, progress: Progress, *, auto: bool = False) -> FittedReadout:
    """Directions at the layers that were captured; at the best of each concept if ``auto``."""
    import numpy as np

    held = held_out(data.labels, taking.seed)
    best = best_layers(separations(data, data.work.layers, held, taking.seed, progress))
    layers = _chosen(best) if auto else data.work.layers
    fitted = fit(data, layers, held, taking, progress)
    vectors = {layer: np.stack([by_layer[layer].vector for by_layer in fitted.values()]) for layer in layers}
    concepts = tuple(_concept(one, held, fitted[one.concept], best.get(one.concept)) for one in data.labels)
    alike = clusters([one.concept for one in concepts], cosines(vectors))
    return FittedReadout(tuple(layers), vectors, concepts, alike, _fields(concepts, fitted, layers))


def _chosen(best: Mapping[str, int]) -> tuple[int, ...]:
    if not best:
        raise UsageError("too few texts to choose layers by", "Name some: --layers 0.6-0.8.")
    return tuple(sorted(set(best.values())))


def _concept(labels: Labels, held: frozenset[str], fitted: Mapping[int, Fitted], best: int | None) -> TrainedConcept:
    sides = (labels.positive, labels.negative)
    away = (sum(text in held for text in sides[0]), sum(text in held for text in sides[1]))
    trained = (len(sides[0]) - away[0], len(sides[1]) - away[1])
    qualities = tuple(one.quality for one in fitted.values())
    there = fitted[best].quality if best is not None else None
    wrong = verdict(there, *away)
    return TrainedConcept(labels.concept, trained, away, best, qualities, wrong, None if wrong else remark(there))


def _fields(
    concepts: Sequence[TrainedConcept], fitted: Mapping[str, Mapping[int, Fitted]], layers: Sequence[int]
) -> Any:
    rows = [[fitted[one.concept][layer] for layer in layers] for one in concepts]
    held = ("auc", "low", "high", "control", "control_high")
    named = {"low": "auc_low", "high": "auc_high"}
    return {
        "norms": [[one.quality.norm for one in row] for row in rows],
        "centers": [[one.center for one in row] for row in rows],
        "spreads": [[one.spread for one in row] for row in rows],
        **{named.get(key, key): [[getattr(one.quality, key) for one in row] for row in rows] for key in held},
        "best": [one.best for one in concepts],
        "counts": {
            one.concept: {"positive": one.trained[0], "negative": one.trained[1], "held_out": list(one.held_out)}
            for one in concepts
        },
    }
