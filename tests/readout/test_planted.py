"""A direction that is known to be there is found, from texts to the file.

The model is a real Llama with random weights. A hook adds a known vector d to what goes into block 2, at every token of a
text that has the word MARK in it, and the word's own embedding is nothing. What is under test is all that comes between a
text and a direction: tokens, batches, padding, hooks, pooling, sums, pairing, the aggregator. That models have such
directions for concepts is not.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from persona.inference.blocks import find_blocks
from persona.inference.load import LoadedModel, from_folder
from persona.progress import SILENT
from persona.readout import aggregators, capturing
from persona.readout.capturing import CaptureOptions, captured
from persona.readout.fitting import FitOptions
from persona.readout.labels import Labels, labels_of
from persona.readout.training import FittedReadout, train
from tests.readout.small import MARK, examples, small_model, texts

BLOCK = 2
TRUTH = np.random.default_rng(7).standard_normal(64)
TRUTH /= np.linalg.norm(TRUTH)
SIZE = 5.0  # times what a token's embedding has: the block answers to it, and the answer is small beside it
NEAR = {"mean": 0.98, "pca": 0.98, "logistic": 0.98, "whitened": 0.9}
"""Cosine with the truth. "whitened" gives up what of it lies along what negatives vary in."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("planted") / "model")


def planted(folder: Path, dtype: str = "fp32") -> LoadedModel:
    live = from_folder(folder, "planted", dtype)
    mark = live.tokenizer.convert_tokens_to_ids(MARK)
    added = (SIZE * torch.tensor(TRUTH)).to(live.model.dtype)
    has: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        live.model.model.embed_tokens.weight[mark] = 0

    def look(_module: Any, inputs: Any) -> None:
        has["mark"] = (inputs[0] == mark).any(1)

    def add(_module: Any, inputs: Any) -> Any:
        return (inputs[0] + has["mark"][:, None, None] * added, *inputs[1:])

    live.model.model.embed_tokens.register_forward_pre_hook(look)
    live.model.model.layers[BLOCK].register_forward_pre_hook(add)
    return live


def labels(positive: int = 60, negative: int = 60, paired: bool = False) -> tuple[Labels, ...]:
    ours = texts(positive, 1, MARK, least=2, most=50)
    theirs = texts(negative, 2, least=2, most=20)
    if paired:
        theirs = [text.removeprefix(f"{MARK} ") for text in ours]
    return labels_of(examples("planted", ours, theirs, paired))


def found(
    live: LoadedModel, texts: tuple[Labels, ...], out: Path, aggregator: str, pooling: str = "mean"
) -> FittedReadout:
    blocks = find_blocks(live.model)
    how = CaptureOptions(pooling, batch_size=7)
    with captured(live, blocks, range(4), texts, how, out / "work.partial", SILENT) as data:
        return train(data, FitOptions(aggregator), SILENT)


@pytest.mark.parametrize("aggregator", aggregators.names())
@pytest.mark.parametrize("given", [(60, 60), (25, 90), (90, 25)], ids=str)
def test_it_is_found(folder: Path, tmp_path: Path, aggregator: str, given: tuple[int, int]) -> None:
    done = found(planted(folder), labels(*given), tmp_path, aggregator)
    assert done.vectors[BLOCK][0] @ TRUTH > NEAR[aggregator]
    assert done.vectors[BLOCK + 1][0] @ TRUTH > NEAR[aggregator]
    assert abs(done.vectors[BLOCK - 1][0] @ TRUTH) < 0.5  # it is not there yet: no off-by-one
    (one,) = done.concepts
    assert one.best in (BLOCK, BLOCK + 1)
    assert (one.verdict, [quality.auc for quality in one.layers[BLOCK:]]) == (None, [1.0, 1.0])


@pytest.mark.parametrize("aggregator", aggregators.names())
def test_it_is_found_from_pairs(folder: Path, tmp_path: Path, aggregator: str) -> None:
    done = found(planted(folder), labels(paired=True), tmp_path, aggregator)
    assert done.vectors[BLOCK][0] @ TRUTH > NEAR[aggregator]


@pytest.mark.parametrize("aggregator", aggregators.names())
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_it_is_found_with_padding_on_the_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregator: str, pooling: str
) -> None:
    monkeypatch.setattr(capturing, "activations", functools.partial(capturing.activations, side="left"))
    done = found(planted(folder), labels(), tmp_path, aggregator, pooling)
    assert done.vectors[BLOCK][0] @ TRUTH > (NEAR[aggregator] if pooling == "mean" else 0.9)


@pytest.mark.parametrize("aggregator", aggregators.names())
def test_it_is_found_in_fp16(folder: Path, tmp_path: Path, aggregator: str) -> None:
    live = planted(folder, "fp16")
    assert live.model.dtype == torch.float16
    done = found(live, labels(), tmp_path, aggregator)
    assert done.vectors[BLOCK][0] @ TRUTH > NEAR[aggregator]


def test_without_it_there_is_nothing_to_find(folder: Path, tmp_path: Path) -> None:
    ours, theirs = texts(60, 1), texts(60, 2)
    done = found(from_folder(folder, "plain"), labels_of(examples("nothing", ours, theirs)), tmp_path, "mean")
    assert "not worth using" in (done.concepts[0].verdict or "")
