"""Score texts: the projections of each, pooled over its tokens in the same way as the readout's training texts.

A readout whose manifest has `sinks` is read without attention sinks. An earlier one is read as it was made, over all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from persona.errors import UsageError
from persona.inference.batches import tokens_of
from persona.progress import SILENT, Progress
from persona.readout import sinks
from persona.readout.capture import Pooled, activations
from persona.readout.model import Readout
from persona.readout.passes import fitting
from persona.readout.units import centers, sizes
from persona.readout.watching import watch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Float32
    from persona.inference.load import LoadedModel


def pooling_of(readout: Readout) -> str:
    """Pooling for plain texts: "last" or "mean". A readout pooled over "assistant" reads every token of them."""
    return "last" if readout.about.get("pooling") == "last" else "mean"


def projections(
    loaded: LoadedModel,
    readout: Readout,
    texts: Sequence[str],
    *,
    blocks: str | None = None,
    batch_size: int = 8,
    progress: Progress = SILENT,
) -> Float32:
    """Project texts; fp32 [texts, concepts, layers] in raw units.

    Args:
        blocks: Where the list of blocks is in the model; None to find it.
        batch_size: Number of texts per batch.
    """
    tokens = tokens_of(loaded, texts)
    with progress.task("reading", len(texts), "texts") as task:
        return of_tokens(loaded, readout, tokens, blocks=blocks, batch_size=batch_size, done=task.advance)


def of_tokens(
    loaded: LoadedModel,
    readout: Readout,
    tokens: Sequence[Sequence[int]],
    marks: Sequence[Sequence[int]] | None = None,
    *,
    blocks: str | None = None,
    batch_size: int = 8,
    done: Callable[[int], None] = lambda _: None,
) -> Float32:
    """Project tokenized texts; fp32 [texts, concepts, layers] in raw units.

    Args:
        marks: 1 at each token to pool over; by default all tokens.
        blocks: Where the list of blocks is in the model; None to find it.
        batch_size: Number of texts per batch.
        done: Called with the number of texts after each batch.

    Raises:
        UsageError: a text has no token but attention sinks; the message says which.
    """
    import numpy as np

    where, beyond = fitting(loaded.model, readout, blocks), sinks.multiple(readout)
    values = np.empty((len(tokens), len(readout.concepts), len(readout.layers)), np.float32)
    for batch, streams in activations(
        loaded,
        where,
        readout.layers,
        tokens,
        pooling=pooling_of(readout),
        batch_size=batch_size,
        marks=marks,
        beyond=beyond,
    ):
        if beyond is not None:
            _refuse_sinks(readout, batch.rows, streams)
        for column, layer in enumerate(readout.layers):
            values[list(batch.rows), :, column] = streams[layer].rows @ readout.vectors[layer].T
        done(len(batch.rows))
    return values


def _refuse_sinks(readout: Readout, rows: Sequence[int], streams: Mapping[int, Pooled]) -> None:
    """Raise if a text has nothing to read at a layer: its projection would be that of a sink, if any."""
    usual = sinks.left_out(readout.about, readout.layers)
    for at, layer in enumerate(readout.layers):
        typical = usual.length[at], usual.first_length[at]
        for row, facts in zip(rows, streams[layer].facts.tolist(), strict=True):
            if facts[0] == 0 or sinks.only_sinks(facts[3], facts[4], *typical, usual.beyond):
                raise UsageError(
                    f"text {row + 1} is nothing but attention sinks at layer {layer}: a first token, or one that it repeats",
                    "Remove it, or add words.",
                )


def by_token(
    loaded: LoadedModel, readout: Readout, text: str, *, blocks: str | None = None
) -> tuple[list[str], Float32, npt.NDArray[np.bool_]]:
    """Project each token of a text.

    Returns:
        The decoded tokens; fp32 [tokens, concepts, layers] in raw units; and whether each is left out of means as an attention
        sink, bool [tokens, layers].
    """
    import numpy as np
    import torch

    (tokens,) = tokens_of(loaded, [text])
    with torch.inference_mode(), watch(loaded.model, readout, blocks=blocks) as r:
        loaded.model(input_ids=torch.tensor([tokens], device=loaded.device), use_cache=False, logits_to_keep=1)
    values = [r.latest[layer][0].numpy() for layer in readout.layers]
    left = [~r.averaged[layer][0].numpy() for layer in readout.layers]
    return [loaded.tokenizer.decode([token]) for token in tokens], np.stack(values, 2), np.stack(left, 1)


def usual_units(readout: Readout) -> str:
    """Default units: "std" if the manifest has centers and spreads, else "raw"."""
    return "std" if all(readout.about.get(name) is not None for name in ("centers", "spreads")) else "raw"


def in_units(readout: Readout, values: Float32, units: str) -> Float32:
    """Convert raw projections [..., concepts, layers] to `units`; "std" and "norm" are relative to the center."""
    import numpy as np

    if units == "raw":
        return values
    unit, center = sizes(readout, units), centers(readout)
    scale = np.stack([unit[layer] for layer in readout.layers], 1)
    zero = np.stack([center[layer] for layer in readout.layers], 1)
    return ((values - zero) / scale).astype(np.float32)
