"""Capture residual activations of texts at some layers, pooled over tokens.

    mean       h̄ = Σ_t m_t h_t / Σ_t m_t     over real tokens (attention mask m), without padding
    last       h at the last real token
    assistant  like mean, over the tokens that the assistant wrote (`readout.texts` marks them)

Activations are widened to fp32 before they are summed, whatever the model's dtype. Each block's output is pooled
immediately, so memory does not grow with the number of layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from persona.inference.batches import batches, collate, positions
from persona.inference.blocks import Blocks, stream_of

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Float32
    from persona.inference.batches import Batch
    from persona.inference.load import LoadedModel

POOLINGS = ("mean", "last", "assistant")


class _Enough(Exception):
    """Ends a forward pass early: the last requested layer has been seen."""


class _Pool:
    """Pools the outputs of blocks during a forward pass, over the tokens that `mask` marks."""

    def __init__(self, pooling: str) -> None:
        self.mask: torch.Tensor | None = None
        self.pooled: dict[int, torch.Tensor] = {}
        self._pooling = pooling

    def hook(self, layer: int) -> Any:
        def pool(_module: Any, _inputs: Any, output: Any) -> None:
            stream = stream_of(output)
            assert self.mask is not None
            self.pooled[layer] = pooled(stream, self.mask.to(stream.device), self._pooling)

        return pool


def pooled(streams: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool streams [batch, tokens, hidden] over the tokens where `mask` [batch, tokens] is 1; fp32 [batch, hidden]."""
    import torch

    if pooling == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)  # the last 1 of each row
        return streams[torch.arange(len(streams), device=streams.device), last].float()
    weights = mask.to(torch.float32)
    total = torch.einsum("bt,bth->bh", weights, streams.float())
    return total / weights.sum(1, keepdim=True)


def activations(
    loaded: LoadedModel,
    blocks: Blocks,
    layers: Sequence[int],
    tokens: Sequence[Sequence[int]],
    *,
    pooling: str = "mean",
    batch_size: int = 8,
    start: int = 0,
    marks: Sequence[Sequence[int]] | None = None,
    side: str = "right",
    whole: bool = False,
) -> Iterator[tuple[Batch, dict[int, Float32]]]:
    """Run texts in batches, longest first; yield each batch with its pooled activations, fp32 [batch, hidden] by layer.

    Args:
        layers: 0-based block indices.
        tokens: Token ids of each text.
        start: Number of texts to skip, in the order of the batches.
        marks: 1 at each token to pool over; by default all real tokens. Required for the pooling "assistant".
        side: Side to pad on, "right" or "left".
        whole: Run all blocks, instead of stopping after the last of `layers`.
    """
    import torch

    pad = (loaded.tokenizer.pad_token_id if loaded.tokenizer is not None else None) or 0
    pool = _Pool(pooling)
    hooks = [(layer, pool.hook(layer)) for layer in layers]
    if not whole:
        hooks.append((max(layers), _stop))  # the last hook, so that the layer is pooled before the pass ends
    with torch.inference_mode(), _hooked(blocks, hooks):
        for batch in batches(tokens, batch_size, pad=pad, side=side, start=start):
            mask = batch.mask if marks is None else collate(marks, batch.rows, 0, side).tokens
            pool.mask = mask.to(loaded.device)
            run(loaded.model, batch.tokens.to(loaded.device), batch.mask.to(loaded.device))
            yield batch, {layer: pool.pooled[layer].cpu().numpy() for layer in layers}


def run(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> None:
    """Run a forward pass for its activations only; a hook may end it early."""
    options = {"position_ids": positions(mask), "use_cache": False, "logits_to_keep": 1}
    # ALiBi models take no positions, and older models cannot limit the logits.
    accepted = inspect.signature(model.forward).parameters
    try:
        model(
            input_ids=tokens,
            attention_mask=mask,
            **{name: value for name, value in options.items() if name in accepted},
        )
    except _Enough:
        return


def _stop(_module: Any, _inputs: Any, _output: Any) -> None:
    raise _Enough


@contextmanager
def _hooked(blocks: Blocks, hooks: Sequence[tuple[int, Any]]) -> Iterator[None]:
    """Register hooks by layer until the block ends."""
    handles = [blocks[layer].register_forward_hook(hook) for layer, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
