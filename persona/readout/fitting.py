"""Fit directions to rows of activations and measure how good they are.

A fifth of each concept's texts is held out (`readout.split`). The other texts alone determine

- the *best layer*: the one at which a difference of means separates unseen texts best in five-fold cross-validation, by
  AUC, then by Cohen's d of the projections. With `auto`, only the best layer of each concept is kept. The choice does not
  depend on the aggregator: means are cheap, and the other aggregators follow them closely;
- the direction, and the centre and spread of the negatives' projections.

Held-out texts are used only afterwards, so their AUC at the best layer is not biased by the choice.
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
"""Number of random directions for the control."""


@dataclass(frozen=True)
class FitOptions:
    """How directions are fitted; `components` is for the aggregator "whitened" (`Sample`)."""

    aggregator: str = "mean"
    seed: int = 0
    components: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A concept at a layer: direction (fp32 [hidden], length 1), its quality, and the negatives' mean and spread."""

    vector: Float32
    quality: LayerQuality
    center: float
    spread: float


@dataclass(frozen=True)
class Separation:
    """How well a difference of means separates unseen texts: AUC and Cohen's d."""

    auc: float
    distance: float


def separations(
    data: Captured, layers: Sequence[int], held: frozenset[str], seed: int, progress: Progress
) -> dict[str, dict[int, Separation]]:
    """Cross-validate layers on the texts that are not `held` out.

    Returns separations by concept and layer, without concepts that have a single text on a side.
    """
    trained = [labels.without(held) for labels in data.labels]
    enough = [labels for labels in trained if min(len(labels.positive), len(labels.negative)) > 1]
    separated: dict[str, dict[int, Separation]] = {labels.concept: {} for labels in enough}
    with progress.task("Comparing layers", len(enough) * len(layers), "layers") as task:
        for labels in enough:
            for layer in layers:
                separated[labels.concept][layer] = _separation(data, layer, labels, seed)
                task.advance(1)
    return separated


def best_layers(separated: Mapping[str, Mapping[int, Separation]]) -> dict[str, int]:
    """The layer that separates each concept best; the first one of equals."""
    return {
        concept: max(by_layer, key=lambda layer: (by_layer[layer].auc, by_layer[layer].distance))
        for concept, by_layer in separated.items()
    }


def _separation(data: Captured, layer: int, labels: Labels, seed: int) -> Separation:
    import numpy as np

    number = folds(labels, seed)
    at = {data.places[text]: fold for text, fold in number.items()}
    sides = [data.rows(layer, labels.side(side)) for side in (True, False)]
    fold = [np.array([at[place] for place in rows.places]) for rows in sides]
    sums = [_sums(rows, which, max(at.values()) + 1) for rows, which in zip(sides, fold, strict=True)]
    means = [(total.sum(0) - total) / _others(which, len(total)) for total, which in zip(sums, fold, strict=True)]
    apart, middle = means[0] - means[1], (means[0] + means[1]) / 2  # [folds, hidden], each excluding its own fold
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
    """Number of texts outside each fold, [folds, 1]."""
    import numpy as np

    return (len(fold) - np.bincount(fold, minlength=count))[:, None]


def _parts(fold: Any) -> list[Any]:
    from persona.readout.aggregators import BLOCK

    return [fold[at : at + BLOCK] for at in range(0, len(fold), BLOCK)]


def _sums(rows: Rows, fold: Any, count: int) -> Float64:
    """Sum of the rows of each fold, [folds, hidden]."""
    import numpy as np

    total = np.zeros((count, rows[[0]].shape[1]))
    for block, some in zip(blocks(rows), _parts(fold), strict=True):
        np.add.at(total, some, block)
    return total


def fit(
    data: Captured, layers: Sequence[int], held: frozenset[str], options: FitOptions, progress: Progress
) -> dict[str, dict[int, Fitted]]:
    """Fit every concept at every layer, by concept and layer.

    Raises:
        NoDirection: both sides of a concept have the same activations at a layer.
    """
    fitted: dict[str, dict[int, Fitted]] = {labels.concept: {} for labels in data.labels}
    with progress.task("Fitting directions", len(layers) * len(data.labels), "directions") as task:
        for layer in layers:
            random = _random(layer, data.work.hidden, options.seed)
            for labels in data.labels:
                fitted[labels.concept][layer] = _fit(data, layer, labels, held, options, random)
                task.advance(1)
    return fitted


def _fit(
    data: Captured, layer: int, labels: Labels, held: frozenset[str], options: FitOptions, random: Float64
) -> Fitted:
    import numpy as np

    trained = labels.without(held)
    sample = _sample(data, layer, trained, options)
    try:
        unit, norm = aggregate(options.aggregator, sample)
    except NoDirection as error:
        raise NoDirection(
            f"'{labels.concept}' has no direction at layer {layer}: {error.message}", error.hint
        ) from None
    vector = unit.astype(np.float32)
    usual = _projections(sample.negative, vector[None])[:, 0]
    turned = random * np.where(random @ sample.apart < 0, -1, 1)[:, None]
    unseen = [_held(data, layer, labels.side(side), held, np.vstack([vector, turned])) for side in (True, False)]
    if len(unseen[0]) and len(unseen[1]):
        quality = _quality(layer, norm, *unseen)
    else:
        seen = _projections(sample.positive, vector[None])[:, 0]
        quality = LayerQuality(layer, norm, None, None, None, None, None, bool(seen.mean() > usual.mean()))
    return Fitted(vector, quality, float(usual.mean()), float(usual.std()))


def _quality(layer: int, norm: float, positive: Float64, negative: Float64) -> LayerQuality:
    import numpy as np

    value, *control = (auc(ours, theirs) for ours, theirs in zip(positive.T, negative.T, strict=True))
    low, high = interval(value, len(positive), len(negative))
    higher = bool(positive[:, 0].mean() > negative[:, 0].mean())
    return LayerQuality(
        layer, norm, value, low, high, float(np.mean(control)), float(np.quantile(control, 0.95)), higher
    )


def _sample(data: Captured, layer: int, labels: Labels, options: FitOptions) -> Sample:
    positive, negative = (data.rows(layer, labels.side(side)) for side in (True, False))
    rows = [{place: row for row, place in enumerate(side.places)} for side in (positive, negative)]
    pairs = sorted((rows[0][data.places[one]], rows[1][data.places[other]]) for one, other in labels.pairs)
    seed = draw_key("pairs", str(options.seed), labels.concept)
    return Sample(positive, negative, tuple(pairs), seed, options.components)


def _held(data: Captured, layer: int, texts: Sequence[str], held: frozenset[str], along: Any) -> Float64:
    """Projections of a side's held-out texts, [texts, directions]."""
    return _projections(data.rows(layer, [text for text in texts if text in held]), along)


def _projections(rows: Rows, along: Any) -> Float64:
    import numpy as np

    parts = [block.astype(np.float64) @ along.T.astype(np.float64) for block in blocks(rows)]
    return np.concatenate(parts) if parts else np.zeros((0, len(along)))


def _random(layer: int, hidden: int, seed: int) -> Float64:
    """Random directions of length 1, [RANDOM, hidden]."""
    import numpy as np

    drawn = np.random.default_rng(draw_key("control", str(seed), str(layer))).standard_normal((RANDOM, hidden))
    unit: Float64 = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit
