"""Readouts that no training made: seeded rows of length 1, and a manifest like that of ``persona readout train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from persona.readout.folder import write_readout
from persona.readout.model import Readout

HIDDEN, BLOCKS = 32, 2
"""Of the tiny Llama."""

CONCEPTS = ("warmth", "calm", "doubt")


def handmade(
    concepts: tuple[str, ...] = CONCEPTS,
    layers: tuple[int, ...] = (0, 1),
    *,
    seed: int = 0,
    hidden: int = HIDDEN,
    **about: Any,
) -> Readout:
    """A readout; ``about`` takes the place of fields of its manifest."""
    generator = np.random.default_rng(seed)
    shape = (len(concepts), hidden)
    vectors = {}
    for layer in layers:
        rows = generator.standard_normal(shape)
        vectors[layer] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def table(low: float, high: float) -> list[list[float]]:
        return [[round(float(one), 4) for one in generator.uniform(low, high, len(layers))] for _ in concepts]

    fields = {
        "site": "block_output", "pooling": "mean", "aggregator": "mean", "normalisation": "unit",
        "norms": table(1, 9), "centers": table(-1, 1), "spreads": table(0.5, 1), "auc": table(0.8, 1),
        "control": table(0.4, 0.6),
        "counts": {name: {"positive": 40, "negative": 52, "held_out": [10, 13]} for name in concepts},
        "hidden": hidden, "base": None, "revision": None, "model": "a tiny Llama",
        "source": {"file": "pairs.jsonl", "digest": "5eed" * 16},
    }  # fmt: skip
    return Readout(concepts, layers, vectors, {**fields, **about})


def written(folder: Path, readout: Readout | None = None) -> Path:
    """The folder of a readout."""
    write_readout(folder, readout or handmade(), replace=folder.exists())
    return folder
