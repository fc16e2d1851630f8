"""What a text looks like inside: residual activations at some layers, pooled over its tokens.

    mean       h̄ = Σ_t m_t h_t / Σ_t m_t     over real tokens (the attention mask m), never padding
    last       h at the last real token
    assistant  as mean, over the tokens that the assistant wrote (``readout.texts`` marks them)

Whatever the model runs in, activations are widened to fp32 before anything is added up. Each block's output is pooled as
soon as it is there, so what is held does not grow with the number of layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


class _Pool:
    """Pools the output of each of some blocks as it passes, over the tokens that ``mask`` marks."""

    def __init__(self, blocks: Blocks, layers: Sequence[int], pooling: str) -> None:
        self.mask: torch.Tensor | None = None
        self.found: dict[int, torch.Tensor] = {}
        self._blocks, self._layers, self._pooling = blocks, layers, pooling

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = [self._blocks[layer].register_forward_hook(self._hook(layer)) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int) -> Any:
        def pool(_module: Any, _inputs: Any, output: Any) -> None:
            stream = stream_of(output)
            assert self.mask is not None
            self.found[layer] = pooled(stream, self.mask.to(stream.device), self._pooling)

        return pool


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
    live: LoadedModel,
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
    """Each batch (longest texts first, from the ``start``-th on) and, by layer, fp32 [batch, hidden].

    ``marks`` is 1 at those tokens of each text that count, which "assistant" needs; all do otherwise. ``side`` is where
    padding goes. The forward pass ends at the last of ``layers`` unless ``whole``: what comes after it is not computed.
    """
    import torch

    pad = (live.tokenizer.pad_token_id if live.tokenizer is not None else None) or 0
    pool = _Pool(blocks, layers, pooling)
    stop: AbstractContextManager[None] = nullcontext() if whole else _stop_after(blocks, max(layers))
    with torch.inference_mode(), pool.hooked(), stop:
        for batch in batches(tokens, batch_size, pad=pad, side=side, start=start):
            counting = batch.mask if marks is None else collate(marks, batch.rows, 0, side).tokens
            pool.mask = counting.to(live.device)
            run(live.model, batch.tokens.to(live.device), batch.mask.to(live.device))
            yield batch, {layer: pool.found[layer].cpu().numpy() for layer in layers}


def run(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> None:
    """One forward pass for its activations alone, as far as something stops it."""
    said = {"position_ids": positions(mask), "use_cache": False, "logits_to_keep": 1}
    taken = inspect.signature(model.forward).parameters  # ALiBi needs no positions, and old models keep all logits
    try:
        model(input_ids=tokens, attention_mask=mask, **{name: said[name] for name in said if name in taken})
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
