"""Letting a model go on from prompts, by the settings that are given and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.inference.batches import Batch
    from persona.inference.load import LoadedModel


def generated(
    live: LoadedModel, batch: Batch, most: int, processors: Sequence[Any] = (), **sampled: Any
) -> list[list[int]]:
    """New tokens of each row of a batch that is padded on the left, ``most`` of them, up to and with the one that ends it.

    Greedy, unless ``sampled`` says otherwise in words of a ``GenerationConfig``. What that leaves open, transformers takes from the
    ``generation_config.json`` that came with the model: it would sample where nothing was said of sampling, and punish
    repetition that is to be measured. So that is out of the way meanwhile.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    model, ends = live.model, end_tokens(live)
    how = GenerationConfig(
        max_new_tokens=most,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),  # comes after an end, and is cut off
        disable_compile=True,
        **{"do_sample": False, **sampled},
    )
    own, model.generation_config = model.generation_config, how
    try:
        with torch.inference_mode():
            made = model.generate(
                input_ids=batch.tokens.to(live.device),
                attention_mask=batch.mask.to(live.device),
                generation_config=how,
                logits_processor=LogitsProcessorList(processors),
            )
    finally:
        model.generation_config = own
    return [_up_to_end(row, ends) for row in made[:, batch.tokens.shape[1] :].tolist()]


def end_tokens(live: LoadedModel) -> set[int]:
    """What ends a reply: one or several tokens, as the model's ``generation_config.json`` has them, or else the tokenizer's."""
    said: Any = getattr(live.model.generation_config, "eos_token_id", None)
    if said is None:
        said = live.need_tokenizer().eos_token_id
    return set() if said is None else {said} if isinstance(said, int) else {*said}


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """Up to and with the first end."""
    stop = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: stop + 1]
