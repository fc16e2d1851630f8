"""Readouts with directions by chance, and models of several kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import transformers

from persona.inference.batches import tokens_of
from persona.inference.blocks import find_blocks
from persona.inference.load import LoadedModel
from persona.readout.capture import activations
from persona.readout.model import Readout
from tests.inference.test_load import make

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


def from_texts(
    live: LoadedModel, texts: Mapping[str, tuple[Sequence[str], Sequence[str]]], layers: Sequence[int]
) -> Readout:
    """Mean differences of pooled activations: a concept's texts with it, and without."""
    vectors: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
    about: dict[str, list[list[float]]] = {"norms": [], "centers": [], "spreads": []}
    for positive, negative in texts.values():
        found: tuple[list[float], ...] = ([], [], [])
        for layer, (on, off) in zip(
            layers,
            zip(pooled_texts(live, positive, layers), pooled_texts(live, negative, layers), strict=True),
            strict=True,
        ):
            difference = on.mean(0) - off.mean(0)
            norm = float(np.linalg.norm(difference))
            vectors[layer].append(difference / norm)
            usual = off @ vectors[layer][-1]
            for into, value in zip(found, (norm, float(usual.mean()), float(usual.std(ddof=1))), strict=True):
                into.append(value)
        for name, row in zip(about, found, strict=True):
            about[name].append(row)
    stacked = {layer: np.stack(rows).astype("f4") for layer, rows in vectors.items()}
    return Readout(tuple(texts), tuple(layers), stacked, about)


def pooled_texts(live: LoadedModel, texts: Sequence[str], layers: Sequence[int]) -> list[np.ndarray]:
    """For each layer, fp32 [texts, hidden]."""
    parts = [streams for _, streams in activations(live, find_blocks(live.model), layers, tokens_of(live, texts))]
    return [np.concatenate([part[layer].rows for part in parts]) for layer in layers]
