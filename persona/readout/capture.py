"""What a text looks like inside: residual activations at some layers, pooled over its tokens.

    mean       h̄ = Σ_t m_t h_t / Σ_t m_t     over real tokens (the attention mask m), never padding
    last       h at the last real token
    assistant  as mean, over the tokens that the caller's mask marks as the assistant's

Whatever the model runs in, activations are widened to fp32 before anything is added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from persona.live.batches import batches, positions
from persona.live.blocks import Blocks, stream_of

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Float32
    from persona.live.batches import Batch
    from persona.live.load import Live

POOLINGS = ("mean", "last", "assistant")


class _Enough(Exception):
    """The last layer that is wanted has been seen: the rest of the forward pass is not needed."""


@contextmanager
def reading(blocks: Blocks, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """The residual streams [batch, tokens, hidden] of the latest forward pass, by layer; hooks go whatever happens."""
    seen: dict[int, torch.Tensor] = {}
    handles = []
    try:
        for layer in layers:

            def keep(_module: Any, _inputs: Any, output: Any, layer: int = layer) -> None:
                seen[layer] = stream_of(output)

            handles.append(blocks[layer].register_forward_hook(keep))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def pooled(streams: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """[batch, tokens, hidden] and a mask [batch, tokens] → fp32 [batch, hidden]. ``mask`` marks the tokens that count."""
    import torch

    if pooling == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)  # the last 1 of each row
        return streams[torch.arange(len(streams), device=streams.device), last].float()
    weights = mask.to(torch.float32)
    total = torch.einsum("bt,bth->bh", weights, streams.float())
    return total / weights.sum(1, keepdim=True)


def activations(
    live: Live,
    blocks: Blocks,
    layers: Sequence[int],
    tokens: Sequence[Sequence[int]],
    *,
    pooling: str = "mean",
    batch_size: int = 8,
    start: int = 0,
) -> Iterator[tuple[Batch, dict[int, Float32]]]:
    """Each batch (shortest texts first, from the ``start``-th on) and, by layer, fp32 [batch, hidden].

    The forward pass ends at the last of ``layers``: what comes after it is not computed.
    """
    import torch

    pad = live.tokenizer.pad_token_id if live.tokenizer is not None else None
    with torch.inference_mode(), reading(blocks, layers) as seen, _stop_after(blocks, max(layers)):
        for batch in batches(tokens, batch_size, pad=pad or 0, start=start):
            mask = batch.mask.to(live.device)
            run(live.model, batch.tokens.to(live.device), mask)
            yield batch, {layer: pooled(seen[layer], mask, pooling).cpu().numpy() for layer in layers}


def run(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> None:
    """One forward pass for its activations alone, as far as something stops it."""
    try:
        model(input_ids=tokens, attention_mask=mask, position_ids=positions(mask), use_cache=False, logits_to_keep=1)
    except _Enough:
        return


@contextmanager
def _stop_after(blocks: Blocks, layer: int) -> Iterator[None]:
    """End forward passes when block ``layer`` has returned. Registered last, so that those who read it have read it."""

    def stop(_module: Any, _inputs: Any, _output: Any) -> None:
        raise _Enough

    handle = blocks[layer].register_forward_hook(stop)
    try:
        yield
    finally:
        handle.remove()
