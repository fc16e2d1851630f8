"""From rows of activations to directions, and to what they are worth.

Of a concept's texts a fifth is held out (``readout.split``). On the others, and on nothing else,

- its *best layer* is chosen: the one at which a difference of means tells texts apart best that it was not taken from, in
  cross-validation over five folds; by AUC, then by Cohen's d of the projections. ``auto`` keeps the best layer of each
  concept. The aggregator has no say in it: the means are cheap, and the others follow them closely;
- the direction is taken, and the centre and spread of the negatives' projections are.

The texts that were held out are looked at once, after that, so their AUC at the best layer is not biased by the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.ids import draw_key
from persona.progress import Progress
from persona.readout.aggregators import NoDirection, Rows, Sample, aggregate, blocks
from persona.readout.capturing import Captured
from persona.readout.labels import Labels
from persona.readout.quality import LayerQuality, auc, interval
from persona.readout.split import folds

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.readout.aggregators import Float64

RANDOM = 64
"""Random directions that a control is taken from."""


@dataclass(frozen=True)
class Taking:
    """How directions are taken."""

    aggregator: str = "mean"
    seed: int = 0
    components: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A concept at a layer: its direction, fp32 of length 1, and what is known of it."""

    vector: Float32
    quality: LayerQuality
    center: float
    spread: float


@dataclass(frozen=True)
class Separation:
    """How well a difference of means tells apart texts that it was not taken from: AUC, and Cohen's d."""

    auc: float
    distance: float


def separations(
    data: Captured, layers: Sequence[int], held: frozenset[str], seed: int, progress: Progress
) -> dict[str, dict[int, Separation]]:
    """By concept and layer, from texts that are not held out; concepts with one such text on a side are absent."""
    trained = [one.without(held) for one in data.labels]
    enough = [one for one in trained if min(len(one.positive), len(one.negative)) > 1]
    found: dict[str, dict[int, Separation]] = {one.concept: {} for one in enough}
    with progress.task("Comparing layers", len(enough) * len(layers), "layers") as task:
        for one in enough:
            for layer in layers:
                found[one.concept][layer] = _separation(data, layer, one, seed)
                task.advance(1)
    return found


def best_layers(found: Mapping[str, Mapping[int, Separation]]) -> dict[str, int]:
    """The layer of each concept at which it is told apart best; of equals the first."""
    return {
        concept: max(by_layer, key=lambda layer: (by_layer[layer].auc, by_layer[layer].distance))
        for concept, by_layer in found.items()
    }


def _separation(data: Captured, layer: int, labels: Labels, seed: int) -> Separation:
    import numpy as np

    number = folds(labels, seed)
    at = {data.places[text]: fold for text, fold in number.items()}
    sides = [data.rows(layer, labels.side(side)) for side in (True, False)]
    fold = [np.array([at[place] for place in rows.places]) for rows in sides]
    sums = [_sums(rows, which, max(at.values()) + 1) for rows, which in zip(sides, fold, strict=True)]
    means = [(total.sum(0) - total) / _others(which, len(total)) for total, which in zip(sums, fold, strict=True)]
    apart, middle = means[0] - means[1], (means[0] + means[1]) / 2  # [folds, hidden], each without its own fold
    size = np.maximum((apart * apart).sum(1), np.finfo(np.float64).tiny)
    scores = [
        np.concatenate([
            ((block - middle[some]) * apart[some]).sum(1) / size[some]
            for block, some in zip(blocks(rows), _parts(which), strict=True)
        ])
        for rows, which in zip(sides, fold, strict=True)
    ]  # fmt: skip
    spread = np.sqrt((scores[0].var() + scores[1].var()) / 2)
    return Separation(auc(*scores), float((scores[0].mean() - scores[1].mean()) / spread) if spread else 0.0)


def _others(fold: Any, count: int) -> Any:
    """How many texts are in other folds, [folds, 1]."""
    import numpy as np

    return (len(fold) - np.bincount(fold, minlength=count))[:, None]


def _parts(fold: Any) -> list[Any]:
    from persona.readout.aggregators import BLOCK

    return [fold[at : at + BLOCK] for at in range(0, len(fold), BLOCK)]


def _sums(rows: Rows, fold: Any, count: int) -> Float64:
    """Sums of the rows of each fold, [folds, hidden]."""
    import numpy as np

    total = np.zeros((count, rows[[0]].shape[1]))
    for block, some in zip(blocks(rows), _parts(fold), strict=True):
        np.add.at(total, some, block)
    return total


def fit(
    data: Captured, layers: Sequence[int], held: frozenset[str], taking: Taking, progress: Progress
) -> dict[str, dict[int, Fitted]]:
    """Every concept at every layer."""
    found: dict[str, dict[int, Fitted]] = {one.concept: {} for one in data.labels}
    with progress.task("Taking directions", len(layers) * len(data.labels), "directions") as task:
        for layer in layers:
            chance = _random(layer, data.work.hidden, taking.seed)
            for one in data.labels:
                found[one.concept][layer] = _fit(data, layer, one, held, taking, chance)
                task.advance(1)
    return found


def _fit(data: Captured, layer: int, labels: Labels, held: frozenset[str], taking: Taking, chance: Float64) -> Fitted:
    import numpy as np

    trained = labels.without(held)
    sample = _sample(data, layer, trained, taking)
    try:
        unit, norm = aggregate(taking.aggregator, sample)
    except NoDirection as error:
        raise NoDirection(
            f"'{labels.concept}' has no direction at layer {layer}: {error.message}", error.hint
        ) from None
    vector = unit.astype(np.float32)
    usual = _projections(sample.negative, vector[None])[:, 0]
    turned = chance * np.where(chance @ sample.apart < 0, -1, 1)[:, None]
    away = [_held(data, layer, labels.side(side), held, np.vstack([vector, turned])) for side in (True, False)]
    if not (len(away[0]) and len(away[1])):
        away_none = _projections(sample.positive, vector[None])[:, 0]
        quality = LayerQuality(layer, norm, None, None, None, None, None, bool(away_none.mean() > usual.mean()))
    else:
        quality = _quality(layer, norm, *away)
    return Fitted(vector, quality, float(usual.mean()), float(usual.std()))


def _quality(layer: int, norm: float, positive: Float64, negative: Float64) -> LayerQuality:
    import numpy as np

    value, *control = (auc(ours, theirs) for ours, theirs in zip(positive.T, negative.T, strict=True))
    low, high = interval(value, len(positive), len(negative))
    higher = bool(positive[:, 0].mean() > negative[:, 0].mean())
    return LayerQuality(
        layer, norm, value, low, high, float(np.mean(control)), float(np.quantile(control, 0.95)), higher
    )


def _sample(data: Captured, layer: int, labels: Labels, taking: Taking) -> Sample:
    positive, negative = (data.rows(layer, labels.side(side)) for side in (True, False))
    rows = [{place: row for row, place in enumerate(side.places)} for side in (positive, negative)]
    pairs = sorted((rows[0][data.places[one]], rows[1][data.places[other]]) for one, other in labels.pairs)
    seed = draw_key("pairs", str(taking.seed), labels.concept)
    return Sample(positive, negative, tuple(pairs), seed, taking.components)


def _held(data: Captured, layer: int, texts: Sequence[str], held: frozenset[str], along: Any) -> Float64:
    """Projections of a side's held-out texts, [texts, directions]."""
    return _projections(data.rows(layer, [text for text in texts if text in held]), along)


def _projections(rows: Rows, along: Any) -> Float64:
    import numpy as np

    parts = [block.astype(np.float64) @ along.T.astype(np.float64) for block in blocks(rows)]
    return np.concatenate(parts) if parts else np.zeros((0, len(along)))


def _random(layer: int, hidden: int, seed: int) -> Float64:
    """Directions of length 1 that know nothing, [RANDOM, hidden]."""
    import numpy as np

    drawn = np.random.default_rng(draw_key("control", str(seed), str(layer))).standard_normal((RANDOM, hidden))
    unit: Float64 = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
