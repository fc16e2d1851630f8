"""Letting a model go on from prompts, by the settings that are given and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona.live.batches import Batch
    from persona.live.load import Live


def generated(live: Live, batch: Batch, how: Any, processors: Sequence[Any] = ()) -> list[list[int]]:
    """New tokens of each row of a batch that is padded on the left, by ``how``, a ``GenerationConfig``.

    What ``how`` leaves open, transformers takes from the ``generation_config.json`` that came with the model: it would sample
    where nothing was said of sampling, and punish repetition that is to be measured. So that is out of the way meanwhile.
    """
    import torch
    from transformers import LogitsProcessorList

    model = live.model
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
    found: list[list[int]] = made[:, batch.tokens.shape[1] :].tolist()
    return found
