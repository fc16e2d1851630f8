"""What texts read as: the projections of each, pooled over its tokens as the readout's own texts were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from persona.inference.batches import tokens_of
from persona.progress import SILENT, Progress
from persona.readout.capture import activations
from persona.readout.model import Readout
from persona.readout.passes import fitting
from persona.readout.units import centers, has_spreads, sizes
from persona.readout.watching import watch

if TYPE_CHECKING:
    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


def pooling_of(readout: Readout) -> str:
    """``last``, or ``mean``: of a text that is no dialogue every token is the assistant's."""
    return "last" if readout.about.get("pooling") == "last" else "mean"


def projections(
    live: LoadedModel,
    readout: Readout,
    texts: Sequence[str],
    *,
    blocks: str | None = None,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> Float32:
    """In raw units, fp32 [texts, concepts, layers]. Only the projections of a batch and the sum of them are held."""
    tokens = tokens_of(live, texts)
    with progress.task("reading", len(texts), "texts") as task:
        return of_tokens(live, readout, tokens, blocks=blocks, batch_size=batch_size, done=task.advance)


def of_tokens(
    live: LoadedModel,
    readout: Readout,
    tokens: Sequence[Sequence[int]],
    marks: Sequence[Sequence[int]] | None = None,
    *,
    blocks: str | None = None,
    batch_size: int = 8,
    done: Callable[[int], None] = lambda _: None,
) -> Float32:
    """The same of texts in tokens; of each only those count whose ``marks`` are 1, where there are any."""
    import numpy as np

    where = fitting(live.model, readout, blocks)
    found = np.empty((len(tokens), len(readout.concepts), len(readout.layers)), np.float32)
    for batch, streams in activations(
        live, where, readout.layers, tokens, pooling=pooling_of(readout), batch_size=batch_size, marks=marks
    ):
        for column, layer in enumerate(readout.layers):
            found[list(batch.rows), :, column] = streams[layer] @ readout.vectors[layer].T
        done(len(batch.rows))
    return found


def by_token(live: LoadedModel, readout: Readout, text: str, *, blocks: str | None = None) -> tuple[list[str], Float32]:
    """The tokens of one text as text, and in raw units fp32 [tokens, concepts, layers]."""
    import numpy as np
    import torch

    (tokens,) = tokens_of(live, [text])
    with torch.inference_mode(), watch(live.model, readout, blocks=blocks) as r:
        live.model(input_ids=torch.tensor([tokens], device=live.device), use_cache=False, logits_to_keep=1)
    values = [r.latest[layer][0].numpy() for layer in readout.layers]
    return [live.tokenizer.decode([token]) for token in tokens], np.stack(values, 2)


def usual_units(readout: Readout) -> str:
    """``std`` where the manifest has what that needs, else ``raw``."""
    return "std" if has_spreads(readout) else "raw"


def in_units(readout: Readout, values: Float32, units: str) -> Float32:
    """Raw projections [..., concepts, layers] in ``std``, from the center; in ``raw`` as they are."""
    import numpy as np

    if units == "raw":
        return values
    unit, center = sizes(readout, units), centers(readout)
    scale = np.stack([unit[layer] for layer in readout.layers], 1)
    zero = np.stack([center[layer] for layer in readout.layers], 1)
    return ((values - zero) / scale).astype(np.float32)
