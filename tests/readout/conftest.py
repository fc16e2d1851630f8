"""Readouts with directions by chance, and models of several kinds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import transformers

from persona.readout.model import Readout
from tests.live.test_load import make

__all__ = ["TOKENS", "by_chance", "make", "padded"]

TOKENS = torch.arange(3, 15).reshape(2, 6)


def by_chance(
    layers: Sequence[int] = (0, 1, 2), concepts: Sequence[str] = ("warmth", "coldness"), hidden: int = 32, seed: int = 0
) -> Readout:
    """Random directions, and random centers, spreads and norms."""
    rng = np.random.default_rng(seed)
    vectors = {layer: rng.standard_normal((len(concepts), hidden)).astype("f4") for layer in layers}
    vectors = {layer: rows / np.linalg.norm(rows, axis=1, keepdims=True) for layer, rows in vectors.items()}
    shape = (len(concepts), len(layers))
    about = {
        "centers": rng.standard_normal(shape).round(3).tolist(),
        "spreads": (rng.random(shape) + 0.5).round(3).tolist(),
        "norms": (rng.random(shape) + 0.5).round(3).tolist(),
    }
    return Readout(tuple(concepts), tuple(layers), vectors, about)


def padded(side: str, short: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens, the second row only ``short`` long, and their mask."""
    tokens, mask = TOKENS.clone(), torch.ones_like(TOKENS)
    row, gap = tokens[1, :short].clone(), TOKENS.shape[1] - short
    place = slice(gap, None) if side == "left" else slice(0, short)
    tokens[1], mask[1] = 0, 0
    tokens[1, place], mask[1, place] = row, 1
    return tokens, mask


def hooks(model: transformers.PreTrainedModel) -> int:
    """How many hooks there are on all of a model."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
