"""Capture residual activations of texts at some layers, pooled over tokens.

    mean       h̄ = Σ_t m_t h_t / Σ_t m_t     over real tokens (attention mask m), without padding
    last       h at the last real token
    assistant  like mean, over the tokens that the assistant wrote (`readout.texts` marks them)

Attention sinks, which `readout.sinks` finds at each layer, are not among these tokens. Activations are widened to fp32 before they are summed, whatever the model's dtype. Each block's output is pooled
immediately, so memory does not grow with the number of layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona.inference.batches import batches, collate, positions
from persona.inference.blocks import Blocks, stream_of
from persona.readout.sinks import BEYOND, ordinary

if TYPE_CHECKING:
    import torch

    from persona.checkpoints.dtypes import Float32
    from persona.inference.batches import Batch
    from persona.inference.load import LoadedModel

POOLINGS = ("mean", "last", "assistant")


class _Enough(Exception):
    """Ends a forward pass early: the last requested layer has been seen."""


@dataclass(frozen=True)
class Pooled:
    """Texts pooled at a layer.

    `rows` are fp32 [batch, hidden], and zero for a text without a token to pool. `facts` are fp32 [batch, FACTS]: the number of
    tokens pooled, first tokens left out, other tokens left out, length of the first token, median length of the others.
    """

    rows: Float32
    facts: Float32


FACTS = 5


class _Pool:
    """Pools the outputs of blocks during a forward pass, over the tokens that `marks` has among the `real` ones."""

    def __init__(self, pooling: str, beyond: float | None) -> None:
        self.real: torch.Tensor | None = None
        self.marks: torch.Tensor | None = None
        self.pooled: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._pooling, self._beyond = pooling, beyond

    def hook(self, layer: int) -> Any:
        def pool(_module: Any, _inputs: Any, output: Any) -> None:
            stream = stream_of(output)
            assert self.real is not None
            assert self.marks is not None
            real, marks = self.real.to(stream.device), self.marks.to(stream.device)
            self.pooled[layer] = pooled(stream, real, marks, self._pooling, self._beyond)

        return pool

    def read(self, layer: int) -> Pooled:
        """What was pooled at a layer, on the CPU."""
        rows, facts = self.pooled[layer]
        return Pooled(rows.cpu().numpy(), facts.cpu().numpy())


def pooled(
    streams: torch.Tensor, real: torch.Tensor, marks: torch.Tensor, pooling: str, beyond: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pool streams [batch, tokens, hidden] over the tokens where `marks` is true; rows and facts as in `Pooled`.

    Args:
        real: True at real tokens, bool [batch, tokens].
        marks: True at the real tokens to pool, bool [batch, tokens].
        beyond: As in `sinks.ordinary`; None to leave no sinks out.
    """
    import torch

    wide = streams.float()
    lengths = wide.norm(dim=-1)
    kept, usual = ordinary(lengths, real, BEYOND if beyond is None else beyond)
    kept = marks if beyond is None else marks & kept
    begin = real & (real.cumsum(1) == 1)
    first = (lengths * begin).sum(1)
    if pooling == "last":
        after = kept.flip(1).cumsum(1).flip(1)  # 1 from the last token kept to before the one kept before it
        taken, left = kept & (after == 1), marks & (after == 0)
    else:
        taken, left = kept, marks & ~kept
    weights = taken.to(torch.float32)
    counts = [taken.sum(1), (left & begin).sum(1), (left & ~begin).sum(1)]
    rows = torch.einsum("bt,bth->bh", weights, wide) / weights.sum(1, keepdim=True).clamp(min=1)
    return rows, torch.stack([*(count.float() for count in counts), first, usual], 1)


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
    beyond: float | None = BEYOND,
) -> Iterator[tuple[Batch, dict[int, Pooled]]]:
    """Run texts in batches, longest first; yield each batch with its pooled activations by layer.

    Args:
        layers: 0-based block indices.
        tokens: Token ids of each text.
        start: Number of texts to skip, in the order of the batches.
        marks: 1 at each token to pool over; by default all real tokens. Required for the pooling "assistant".
        side: Side to pad on, "right" or "left".
        whole: Run all blocks, instead of stopping after the last of `layers`.
        beyond: As in `sinks.ordinary`; None to leave no sinks out.
    """
    import torch

    pad = (loaded.tokenizer.pad_token_id if loaded.tokenizer is not None else None) or 0
    pool = _Pool(pooling, beyond)
    hooks = [(layer, pool.hook(layer)) for layer in layers]
    if not whole:
        hooks.append((max(layers), _stop))  # the last hook, so that the layer is pooled before the pass ends
    with torch.inference_mode(), _hooked(blocks, hooks):
        for batch in batches(tokens, batch_size, pad=pad, side=side, start=start):
            mask = batch.mask if marks is None else collate(marks, batch.rows, 0, side).tokens
            pool.real, pool.marks = batch.mask.to(loaded.device).bool(), mask.to(loaded.device).bool()
            run(loaded.model, batch.tokens.to(loaded.device), batch.mask.to(loaded.device))
            yield batch, {layer: pool.read(layer) for layer in layers}


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
