"""Generating from prompts, with the given settings and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.inference.batches import Batch
    from persona.inference.load import LoadedModel


def generated(
    loaded: LoadedModel,
    batch: Batch,
    most: int,
    processors: Sequence[Any] = (),
    *,
    streamer: Any = None,
    **sampled: Any,
) -> list[list[int]]:
    """Generate a continuation of each row.

    Args:
        loaded: The model.
        batch: Prompts, padded on the left.
        most: Maximum number of new tokens per row.
        processors: Additional logits processors.
        streamer: Its ``put`` is called with the prompt, and then with each new token.
        **sampled: Fields of a ``GenerationConfig``. Decoding is greedy by default.

    Returns:
        The new tokens of each row, up to and including the one that ends it.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    model, ends = loaded.model, end_tokens(loaded)
    config = GenerationConfig(
        max_new_tokens=most,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),  # only follows an end token, and is cut off
        disable_compile=True,
        **{"do_sample": False, **sampled},
    )
    # transformers fills unset fields from the model's own generation_config.json, which may turn on sampling, or
    # penalize the repetition that is to be measured.
    own, model.generation_config = model.generation_config, config
    try:
        with torch.inference_mode():
            tokens = model.generate(
                input_ids=batch.tokens.to(loaded.device),
                attention_mask=batch.mask.to(loaded.device),
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
                streamer=streamer,
            )
    finally:
        model.generation_config = own
    return [_up_to_end(row, ends) for row in tokens[:, batch.tokens.shape[1] :].tolist()]


def end_tokens(loaded: LoadedModel) -> set[int]:
    """The tokens that end a reply: those of the model's ``generation_config.json``, else the tokenizer's."""
    ends: Any = getattr(loaded.model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = loaded.need_tokenizer().eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else {*ends}


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """The tokens up to and including the first end token."""
    stop = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: stop + 1]
