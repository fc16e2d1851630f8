"""Turn labelled texts into rows of activations. Each text runs once, even if several concepts use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona.errors import Refusal
from persona.ids import Hasher
from persona.inference.batches import by_length
from persona.progress import Progress
from persona.readout.capture import Pooled, activations
from persona.readout.labels import Labels, check_sides
from persona.readout.sinks import BEYOND, SinksLeftOut, only_sinks
from persona.readout.texts import EncodedText, encode
from persona.readout.working import LayerRows, Working, working

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from persona.checkpoints.dtypes import Float32
    from persona.inference.blocks import Blocks
    from persona.inference.load import LoadedModel


@dataclass(frozen=True)
class CaptureOptions:
    """How texts are pooled, batched and, if too long, handled (`texts.TOO_LONG`)."""

    pooling: str = "mean"
    batch_size: int = 8
    too_long: str = "error"


@dataclass(frozen=True)
class Captured:
    """Activations of all texts of `labels`, on disk.

    `places` maps each text to its position in capture order, and `sinks` says which tokens were not pooled. `resumed` texts had
    been captured before; of those that were too long, `cut` were shortened and `skipped` left out. `labels` is also without the
    texts that are nothing but attention sinks.
    """

    work: Working
    labels: tuple[Labels, ...]
    places: dict[str, int]
    tokens: int
    resumed: int
    cut: int
    skipped: int
    sinks: SinksLeftOut

    def rows(self, layer: int, texts: Sequence[str]) -> LayerRows:
        """The rows of some texts at a layer, in capture order."""
        return LayerRows(self.work, layer, sorted(self.places[text] for text in texts))


@contextmanager
def captured(
    loaded: LoadedModel,
    blocks: Blocks,
    layers: Sequence[int],
    labels: Sequence[Labels],
    how: CaptureOptions,
    folder: Path,
    progress: Progress,
) -> Iterator[Captured]:
    """Run the texts that are not yet in `folder`, which stays locked until the block ends. It is not deleted.

    Raises:
        UsageError: a text cannot be tokenized, or a concept loses a side because its texts are too long.
        Refusal: an activation is not finite, or `folder` holds another run.
        Locked: another process writes to `folder`.
    """
    texts = sorted({text for concept in labels for side in (True, False) for text in concept.side(side)})
    encoded = encode(loaded, texts, how.pooling, how.too_long)
    kept = [texts[row] for row in encoded.rows]
    left = _without(labels, frozenset(texts) - frozenset(kept), "after skipping texts that are too long")
    order = by_length(encoded.tokens)
    places = {kept[row]: place for place, row in enumerate(order)}
    with working(folder, _plan(loaded, blocks, layers, encoded, how)) as work:
        resumed = work.kept
        tokens = _run(loaded, blocks, encoded, how, work, order, progress)
        facts = work.facts()
        empty = _nothing_else(facts)
        ours = frozenset(text for text, place in places.items() if empty[place])
        if ours:
            left = _without(
                left, ours, "after leaving out texts of nothing but attention sinks, such as those of one token"
            )
        sinks = _left_out(facts[:, ~empty], len(ours))
        yield Captured(work, left, places, tokens, resumed, encoded.cut, len(texts) - len(kept), sinks)


def _nothing_else(facts: Float32) -> npt.NDArray[np.bool_]:
    """Which texts are nothing but attention sinks at a layer, bool [texts]."""
    import numpy as np

    empty = (facts[:, :, 0] == 0).any(0)
    for layer in facts:
        first, usual = layer[:, 3], layer[:, 4]
        typical = (_median(usual), _median(first))
        empty |= [only_sinks(float(f), float(u), *typical, BEYOND) for f, u in zip(first, usual, strict=True)]
    return np.asarray(empty)


def _left_out(facts: Float32, texts: int) -> SinksLeftOut:
    """Sum up what was left out, from the facts of the texts that are used."""
    return SinksLeftOut(
        beyond=BEYOND,
        texts=texts,
        first=int(facts[0, :, 1].sum()),
        others=tuple(int(layer[:, 2].sum()) for layer in facts),
        first_length=tuple(_median(layer[:, 3]) for layer in facts),
        length=tuple(_median(layer[:, 4]) for layer in facts),
    )


def _median(values: Float32) -> float:
    """Median without NaN; 0 if there is nothing else."""
    import numpy as np

    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else 0.0


def _without(labels: Sequence[Labels], skipped: frozenset[str], where: str) -> tuple[Labels, ...]:
    left = tuple(concept.without(skipped) for concept in labels)
    check_sides(left, where)
    return left


def _run(
    loaded: LoadedModel,
    blocks: Blocks,
    encoded: EncodedText,
    how: CaptureOptions,
    work: Working,
    order: Sequence[int],
    progress: Progress,
) -> int:
    """Capture the remaining texts; return the number of tokens of all texts."""
    lengths = [len(tokens) for tokens in encoded.tokens]
    with progress.task("Reading texts", sum(lengths), "tokens") as task:
        task.advance(sum(lengths[row] for row in order[: work.kept]))
        if work.kept < len(order):
            captured = activations(
                loaded, blocks, work.layers, encoded.tokens, pooling=how.pooling, batch_size=how.batch_size,
                start=work.kept, marks=encoded.marks,
            )  # fmt: skip
            for batch, by_layer in captured:
                work.append(_stacked(loaded, by_layer, work.layers), _facts(by_layer, work.layers))
                task.advance(sum(lengths[row] for row in batch.rows))
        work.flush()
    return sum(lengths)


def _facts(by_layer: dict[int, Pooled], layers: Sequence[int]) -> Float32:
    import numpy as np

    return np.stack([by_layer[layer].facts for layer in layers])


def _stacked(loaded: LoadedModel, by_layer: dict[int, Pooled], layers: Sequence[int]) -> Float32:
    """Stack activations to [layers, batch, hidden]; raise if one overflowed the dtype."""
    import numpy as np

    for layer in layers:
        if not np.isfinite(by_layer[layer].rows).all():
            raise Refusal(
                f"{loaded.label}: an activation at layer {layer} is not finite in {loaded.dtype}",
                "Use --dtype fp32 or bf16, with another -o OUT: the activations captured so far cannot be reused.",
            )
    return np.stack([by_layer[layer].rows for layer in layers])


def _plan(
    loaded: LoadedModel, blocks: Blocks, layers: Sequence[int], encoded: EncodedText, how: CaptureOptions
) -> dict[str, Any]:
    """Everything that the rows depend on. Batch size and device are left out: they change only the rounding."""
    digest = Hasher()
    for row, tokens in enumerate(encoded.tokens):
        digest.update(len(tokens).to_bytes(8, "little"))
        digest.update(tokens)
        if encoded.marks is not None:
            digest.update(encoded.marks[row])
    return {
        "model": identity(loaded), "dtype": loaded.dtype, "blocks": blocks.path,
        "layers": list(layers), "hidden": blocks.hidden, "pooling": how.pooling, "sinks": BEYOND,
        "texts": digest.hexdigest(), "rows": len(encoded.tokens),
    }  # fmt: skip


def identity(loaded: LoadedModel) -> str:
    """Identify a model by its revision or, without one, by the BLAKE3 of its weights."""
    import torch

    if loaded.revision is not None:
        return f"commit {loaded.revision}"
    hasher = Hasher(threads=True)
    for name, weight in loaded.model.state_dict().items():
        hasher.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        hasher.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"weights {hasher.hexdigest()}"
