"""What is captured is the residual stream after a block, pooled over real tokens, whatever the batch and the padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from persona.inference.batches import by_length
from persona.inference.blocks import find_blocks
from persona.inference.load import LoadedModel, from_folder
from persona.readout.capture import activations, pooled
from tests.inference.test_load import KINDS, make
from tests.readout.small import small_model

TOKENS = [[1, 5, 9], [1, 7], [1, 4, 4, 8, 20, 31, 7, 7, 2], [1, 3, 5, 30, 40], [1, 50, 2, 3, 4, 5, 6, 7]]


def rows(live: LoadedModel, **how: Any) -> dict[int, np.ndarray]:
    """By layer, in the order of TOKENS."""
    blocks = find_blocks(live.model)
    layers = range(len(blocks))
    found = {layer: np.zeros((len(TOKENS), blocks.hidden), np.float32) for layer in layers}
    for batch, by_layer in activations(live, blocks, layers, TOKENS, **how):
        for layer in layers:
            found[layer][list(batch.rows)] = by_layer[layer].rows
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_layer_i_is_the_hidden_state_i_plus_1(kind: str, pooling: str) -> None:
    live = LoadedModel(make(kind), None, kind)
    found = rows(live, pooling=pooling, batch_size=2)
    for row, tokens in enumerate(TOKENS):
        with torch.inference_mode():
            states = live.model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
        for layer in range(len(found) - 1):  # the last of hidden_states is after the final norm
            alone = states[layer + 1][0]
            wanted = alone[1:].mean(0) if pooling == "mean" else alone[-1]
            assert found[layer][row] == pytest.approx(wanted.numpy(), abs=2e-5), (layer, row)


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 3}, {"side": "left"}, {"whole": True}])
def test_batches_and_padding_move_nothing_but_rounding(how: dict[str, Any]) -> None:
    live = LoadedModel(make("llama"), None, "llama")
    usual, other = rows(live, batch_size=64), rows(live, **how)
    for layer in usual:
        assert np.abs(usual[layer] - other[layer]).max() < 1e-5 * np.abs(usual[layer]).max()


def test_only_marked_tokens_count() -> None:
    live = LoadedModel(make("llama"), None, "llama")
    marks = [[0] * (len(tokens) - 1) + [1] for tokens in TOKENS]
    last = rows(live, pooling="last")
    for side in ("left", "right"):
        only = rows(live, pooling="assistant", marks=marks, side=side)
        assert only[1] == pytest.approx(last[1], abs=1e-5)


def test_long_texts_come_first_and_a_start_skips_some() -> None:
    live = LoadedModel(make("llama"), None, "llama")
    blocks = find_blocks(live.model)
    assert by_length(TOKENS) == [2, 4, 3, 0, 1]
    assert [b.rows for b, _ in activations(live, blocks, [0], TOKENS, batch_size=2)] == [(2, 4), (3, 0), (1,)]
    assert [b.rows for b, _ in activations(live, blocks, [0], TOKENS, batch_size=2, start=3)] == [(0, 1)]


def test_what_comes_after_the_last_layer_is_not_run(tmp_path: Path) -> None:
    live = from_folder(small_model(tmp_path / "model"), "small")
    blocks = find_blocks(live.model)
    ran = []
    for layer in range(4):
        blocks[layer].register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    list(activations(live, blocks, [0, 2], TOKENS, batch_size=8))
    assert ran == [0, 1, 2]


def test_hooks_go_whatever_happens(tmp_path: Path) -> None:
    live = from_folder(small_model(tmp_path / "model"), "small")
    blocks = find_blocks(live.model)
    with pytest.raises(IndexError):
        list(activations(live, blocks, [1, 3], [[1, 10_000]]))
    next(iter(work := activations(live, blocks, [1, 3], TOKENS)))
    work.close()
    assert not any(block._forward_hooks for block in blocks.modules)


def test_sums_are_taken_in_fp32() -> None:
    streams = torch.full((1, 4096, 2), 0.1, dtype=torch.bfloat16)
    mask = torch.ones((1, 4096), dtype=torch.bool)
    found, _ = pooled(streams, mask, mask, "mean", None)
    assert found.dtype == torch.float32
    assert found[0].numpy() == pytest.approx(float(streams[0, 0, 0]), rel=1e-5)
