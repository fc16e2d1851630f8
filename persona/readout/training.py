"""Train a readout from captured texts, and collect its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.errors import UsageError
from persona.progress import Progress
from persona.readout.capturing import Captured
from persona.readout.fitting import FitOptions, Fitted, best_layers, fit, separations
from persona.readout.labels import Labels
from persona.readout.quality import ConceptCluster, LayerQuality, clusters, cosines, remark, verdict
from persona.readout.split import held_out

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32


@dataclass(frozen=True)
class TrainedConcept:
    """A trained concept.

    `trained` and `held_out` count its texts, positive and negative. `best` is its best layer by cross-validation on the
    training texts. `layers` has its quality at each layer. `verdict` says why it should not be used, `remark` gives a
    caveat; both are null if there is nothing to say.
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
    """Directions by layer, results by concept, and the manifest fields that depend on the texts."""

    layers: tuple[int, ...]
    vectors: Mapping[int, Float32]
    concepts: tuple[TrainedConcept, ...]
    clusters: tuple[ConceptCluster, ...]
    fields: Mapping[str, Any]


def train(data: Captured, options: FitOptions, progress: Progress, *, auto: bool = False) -> FittedReadout:
    """Train directions at the captured layers, or with `auto` only at the best layer of each concept.

    Raises:
        UsageError: `auto`, but there are too few texts to choose layers.
        NoDirection: both sides of a concept have the same activations at a layer.
    """
    import numpy as np

    held = held_out(data.labels, options.seed)
    best = best_layers(separations(data, data.work.layers, held, options.seed, progress))
    layers = _chosen(best) if auto else data.work.layers
    fitted = fit(data, layers, held, options, progress)
    vectors = {layer: np.stack([by_layer[layer].vector for by_layer in fitted.values()]) for layer in layers}
    concepts = tuple(_concept(labels, held, fitted[labels.concept], best.get(labels.concept)) for labels in data.labels)
    alike = clusters([concept.concept for concept in concepts], cosines(vectors))
    return FittedReadout(tuple(layers), vectors, concepts, alike, _fields(concepts, fitted, layers))


def _chosen(best: Mapping[str, int]) -> tuple[int, ...]:
    if not best:
        raise UsageError("too few texts to choose layers", "Name them: --layers 0.6-0.8.")
    return tuple(sorted(set(best.values())))


def _concept(labels: Labels, held: frozenset[str], fitted: Mapping[int, Fitted], best: int | None) -> TrainedConcept:
    sides = (labels.positive, labels.negative)
    unseen = (sum(text in held for text in sides[0]), sum(text in held for text in sides[1]))
    trained = (len(sides[0]) - unseen[0], len(sides[1]) - unseen[1])
    qualities = tuple(layer.quality for layer in fitted.values())
    at_best = fitted[best].quality if best is not None else None
    wrong = verdict(at_best, *unseen)
    return TrainedConcept(labels.concept, trained, unseen, best, qualities, wrong, None if wrong else remark(at_best))


def _fields(
    concepts: Sequence[TrainedConcept], fitted: Mapping[str, Mapping[int, Fitted]], layers: Sequence[int]
) -> Any:
    rows = [[fitted[concept.concept][layer] for layer in layers] for concept in concepts]
    held = {"auc": "auc", "auc_low": "low", "auc_high": "high", "control": "control", "control_high": "control_high"}
    return {
        "norms": [[cell.quality.norm for cell in row] for row in rows],
        "centers": [[cell.center for cell in row] for row in rows],
        "spreads": [[cell.spread for cell in row] for row in rows],
        **{key: [[getattr(cell.quality, name) for cell in row] for row in rows] for key, name in held.items()},
        "best": [concept.best for concept in concepts],
        "counts": {
            concept.concept: {
                "positive": concept.trained[0],
                "negative": concept.trained[1],
                "held_out": list(concept.held_out),
            }
            for concept in concepts
        },
    }
